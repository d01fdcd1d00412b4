{{- define "ichor.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Of one component: (dict "root" $ "component" "worker" "instance" "") */}}
{{- define "ichor.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .instance }}
ichor.dev/provider: {{ . }}
{{- end }}
{{- end -}}

{{- define "ichor.labels" -}}
{{ include "ichor.selector" . }}
app.kubernetes.io/part-of: ichor
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "ichor.image" -}}
{{- $registry := required "image.registry: say where the images of `make image` were pushed to" .root.Values.image.registry | trimSuffix "/" -}}
{{- if .image.digest -}}
{{- printf "%s/%s@%s" $registry .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s/%s:%s" $registry .image.repository (.root.Values.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "ichor.workerAccount" -}}
{{- if .Values.worker.serviceAccount.create -}}
{{- .Values.worker.serviceAccount.name | default (printf "%s-worker" (include "ichor.fullname" .)) -}}
{{- else -}}
{{- .Values.worker.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "ichor.providerAccount" -}}
{{- if .Values.provider.serviceAccount.create -}}
{{- .Values.provider.serviceAccount.name | default (printf "%s-provider" (include "ichor.fullname" .)) -}}
{{- else -}}
{{- .Values.provider.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* The name of everything that belongs to one provider: (dict "root" $ "p" $provider) */}}
{{- define "ichor.providerName" -}}
{{- printf "%s-provider-%s" (include "ichor.fullname" .root) .p.name -}}
{{- end -}}

{{/* Names in certificates: the server's Service, and the one client that is let in. */}}
{{- define "ichor.serverNames" -}}
{{- $name := include "ichor.providerName" . -}}
{{- $ns := .root.Release.Namespace -}}
{{- toYaml (concat (list $name (printf "%s.%s" $name $ns) (printf "%s.%s.svc" $name $ns) (printf "%s.%s.svc.cluster.local" $name $ns)) (default list .p.dnsNames)) -}}
{{- end -}}

{{- define "ichor.clientName" -}}
{{- printf "%s.autoscaler.ichor.dev" .p.name -}}
{{- end -}}

{{- define "ichor.serverSecret" -}}
{{- $tls := default dict .p.tls -}}
{{- if $tls.secretName -}}
{{- $tls.secretName -}}
{{- else if .root.Values.provider.tls.certManager.enabled -}}
{{- include "ichor.providerName" . }}-tls
{{- else -}}
{{- fail (printf "providers[%s]: tls.secretName or provider.tls.certManager.enabled is needed; who reaches a provider can delete machines, so it does not run without mutual TLS" .p.name) -}}
{{- end -}}
{{- end -}}

{{/* Names of clients that are let in, comma-separated. */}}
{{- define "ichor.clientNames" -}}
{{- $tls := default dict .p.tls -}}
{{- if $tls.clientNames -}}
{{- join "," $tls.clientNames -}}
{{- else if not $tls.secretName -}}
{{- include "ichor.clientName" . -}}
{{- end -}}
{{- end -}}

{{- define "ichor.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
# The root of a new volume is enough. Files of the store are private, and a
# recursive change would open them to the group.
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "ichor.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "ichor.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Flags that both programs know: (dict "root" $ "settings" ... "credentials" ...) */}}
{{- define "ichor.commonArgs" -}}
- {{ printf "--task-queue=%s" .root.Values.temporal.taskQueue | quote }}
- --metrics-listen=:9090
- --log-format={{ .root.Values.log.format }}
- --log-level={{ .root.Values.log.level }}
{{- with .root.Values.tracing.endpoint }}
- {{ printf "--otlp-endpoint=%s" . | quote }}
{{- end }}
{{- with .root.Values.codec.keys }}
- {{ printf "--codec-keys=%s" (join "," .) | quote }}
{{- end }}
{{- $names := list }}
{{- range .credentials.env }}
{{- $names = append $names .name }}
{{- end }}
{{- /* An empty list would allow everything, the store's key included. */}}
- --secret-env={{ default (list "-") $names | join "," }}
- --secret-files=/etc/ichor/secrets
{{- range $name, $value := .settings }}
{{- /* A large number would become 1e+06. */}}
- {{ printf "--%s=%s" $name (kindIs "string" $value | ternary $value (toJson $value)) | quote }}
{{- end }}
{{- end -}}

{{- define "ichor.storeArgs" -}}
- {{ required "store.url: say where the encrypted store is, such as s3://bucket?region=..." .Values.store.url | printf "--store=%s" | quote }}
{{- if .Values.store.key.url }}
- {{ printf "--store-key=%s" .Values.store.key.url | quote }}
{{- end }}
{{- end -}}

{{- define "ichor.storeEnv" -}}
{{- if and .Values.store.key.url .Values.store.key.secretName }}
{{- fail "store.key: url and secretName exclude each other" }}
{{- end }}
{{- if .Values.store.key.secretName }}
- name: ICHOR_STORE_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .Values.store.key.secretName }}
      key: {{ .Values.store.key.key }}
{{- else if not .Values.store.key.url }}
{{- fail "store.key: url or secretName is needed; without its key a store is lost, so the chart makes none" }}
{{- end }}
{{- include "ichor.secretEnv" .Values.store.env }}
{{- end -}}

{{/* Variables from Secrets: a list of name, secretName, key. */}}
{{- define "ichor.secretEnv" -}}
{{- range . }}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secretName }}
      key: {{ .key }}
{{- end }}
{{- end -}}

{{- define "ichor.temporalEnv" -}}
{{- $t := .Values.temporal -}}
- name: TEMPORAL_ADDRESS
  value: {{ required "temporal.address: say where Temporal's frontend is, as host:port" $t.address | quote }}
- name: TEMPORAL_NAMESPACE
  value: {{ $t.namespace | quote }}
{{- with $t.apiKey.secretName }}
- name: TEMPORAL_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $t.apiKey.key }}
{{- end }}
{{- if and (not $t.tls.enabled) (or $t.tls.serverName $t.tls.caSecretName $t.tls.clientSecretName) }}
{{- fail "temporal.tls: enabled is false, but other settings of it are not empty" }}
{{- end }}
{{- if $t.tls.enabled }}
- name: TEMPORAL_TLS
  value: "true"
{{- with $t.tls.serverName }}
- name: TEMPORAL_TLS_SERVER_NAME
  value: {{ . | quote }}
{{- end }}
{{- if $t.tls.caSecretName }}
- name: TEMPORAL_TLS_SERVER_CA_CERT_PATH
  value: /etc/ichor/temporal-ca/ca.crt
{{- end }}
{{- if $t.tls.clientSecretName }}
- name: TEMPORAL_TLS_CLIENT_CERT_PATH
  value: /etc/ichor/temporal-client/tls.crt
- name: TEMPORAL_TLS_CLIENT_KEY_PATH
  value: /etc/ichor/temporal-client/tls.key
{{- end }}
{{- else if $t.apiKey.secretName }}
{{- fail "temporal.apiKey: needs temporal.tls.enabled; a key does not travel in the clear" }}
{{- end }}
{{- end -}}

{{- define "ichor.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .root.Values.temporal.tls.caSecretName }}
- name: temporal-ca
  mountPath: /etc/ichor/temporal-ca
  readOnly: true
{{- end }}
{{- if .root.Values.temporal.tls.clientSecretName }}
- name: temporal-client
  mountPath: /etc/ichor/temporal-client
  readOnly: true
{{- end }}
{{- range .credentials.files }}
- name: secret-{{ .secretName | replace "." "-" }}
  mountPath: /etc/ichor/secrets/{{ .secretName }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "ichor.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- with .root.Values.temporal.tls.caSecretName }}
- name: temporal-ca
  secret:
    secretName: {{ . }}
    items:
      - key: ca.crt
        path: ca.crt
{{- end }}
{{- with .root.Values.temporal.tls.clientSecretName }}
- name: temporal-client
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- range .credentials.files }}
- name: secret-{{ .secretName | replace "." "-" }}
  secret:
    secretName: {{ .secretName }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{- define "ichor.probes" -}}
startupProbe:
  httpGet:
    path: /healthz
    port: metrics
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet:
    path: /healthz
    port: metrics
  periodSeconds: 20
  timeoutSeconds: 5
readinessProbe:
  httpGet:
    path: /readyz
    port: metrics
  periodSeconds: 5
  timeoutSeconds: 5
{{- end -}}

{{/* Reading of named Secrets, nothing else of a namespace. */}}
{{- define "ichor.secretAccess" -}}
{{- $name := printf "%s-%s-%s" .root.Release.Namespace (include "ichor.fullname" .root) .component }}
{{- range .access }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  namespace: {{ .namespace }}
  labels:
    {{- include "ichor.labels" (dict "root" $.root "component" $.component "instance" "") | nindent 4 }}
rules:
  - apiGroups: [""]
    resources: [secrets]
    resourceNames:
      {{- toYaml .names | nindent 6 }}
    verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  namespace: {{ .namespace }}
  labels:
    {{- include "ichor.labels" (dict "root" $.root "component" $.component "instance" "") | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ $.account }}
    namespace: {{ $.root.Release.Namespace }}
{{- end }}
{{- end -}}
