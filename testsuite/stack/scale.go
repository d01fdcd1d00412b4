package stack

import "time"

// Scaled returns worker settings whose waits are the defaults divided by speed,
// with floors where the machine that runs everything would become the limit:
// real processes behind the emulated cloud do not get faster with it.
func Scaled(speed float64) map[string]string {
	if speed < 1 {
		speed = 1
	}
	scale := func(d, floor time.Duration) string {
		return max(time.Duration(float64(d)/speed), floor).Round(time.Millisecond).String()
	}
	return map[string]string{
		"ICHOR_POLL":           scale(2*time.Second, 250*time.Millisecond),
		"ICHOR_CLOUD_POLL":     scale(2*time.Second, 200*time.Millisecond),
		"ICHOR_BACKOFF":        scale(2*time.Second, 200*time.Millisecond),
		"ICHOR_SETTLE":         scale(30*time.Second, time.Second),
		"ICHOR_ABSENCE_WINDOW": scale(time.Minute, time.Second),
		"ICHOR_REQUEST_RATE":   "200",
	}
}
