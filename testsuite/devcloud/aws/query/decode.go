package query

import (
	"cmp"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// maxIndex bounds the numbers of lists, which AWS bounds to a thousand or less.
const maxIndex = 1000

// Decode fills the struct that into points to. A field takes the parameter of
// its name or of its tag `query:"…"`; fields of nested structs are joined by
// dots. Lists are numbered from 1, with or without "member." before the number.
// Strings, bools and integers may stand behind pointers, which stay nil without
// the parameter. Whatever no field takes is refused as UnknownParameter.
func Decode(form url.Values, into any) error {
	d := decoder{form: form, used: map[string]bool{}}
	if err := d.value("", reflect.ValueOf(into).Elem()); err != nil {
		return err
	}
	return d.complete()
}

// Pick is Decode for who needs some parameters only: what no field takes, it
// leaves alone.
func Pick(form url.Values, into any) error {
	d := decoder{form: form, used: map[string]bool{}}
	return d.value("", reflect.ValueOf(into).Elem())
}

// Take removes a list of texts from a form and returns it.
func Take(form url.Values, name string) (out []string, err error) {
	d := decoder{form: form, used: map[string]bool{}}
	err = d.list(name, reflect.ValueOf(&out).Elem())
	for k := range d.used {
		delete(form, k)
	}
	return out, err
}

type decoder struct {
	form url.Values
	used map[string]bool
}

// complete refuses parameters that nothing has used.
func (d *decoder) complete() error {
	var unknown []string
	for k := range d.form {
		if !d.used[k] {
			unknown = append(unknown, k)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return Refuse("UnknownParameter", "The parameter %s is not recognized", unknown[0])
	}
	return nil
}

func (d *decoder) value(name string, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			inner := cmp.Or(f.Tag.Get("query"), f.Name)
			if f.Anonymous {
				inner = name
			} else if name != "" {
				inner = name + "." + inner
			}
			if err := d.value(inner, v.Field(i)); err != nil {
				return err
			}
		}
		return nil
	case reflect.Pointer:
		if !d.has(name) {
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return d.value(name, v.Elem())
	case reflect.Slice:
		return d.list(name, v)
	default:
		return d.scalar(name, v)
	}
}

// has says whether any parameter belongs to a name.
func (d *decoder) has(name string) bool {
	if _, ok := d.form[name]; ok {
		return true
	}
	for k := range d.form {
		if strings.HasPrefix(k, name+".") {
			return true
		}
	}
	return false
}

func (d *decoder) list(name string, v reflect.Value) error {
	var numbers []int
	member := ""
	for k := range d.form {
		rest, ok := strings.CutPrefix(k, name+".")
		if !ok {
			continue
		}
		if r, ok := strings.CutPrefix(rest, "member."); ok {
			rest, member = r, "member."
		}
		head, _, _ := strings.Cut(rest, ".")
		n, err := strconv.Atoi(head)
		if err != nil || n < 1 || n > maxIndex {
			continue // some other parameter, or an unknown one
		}
		numbers = append(numbers, n)
	}
	// An empty list is sent as the bare name.
	if empty, ok := d.form[name]; ok && len(empty) == 1 && empty[0] == "" {
		d.used[name] = true
	}
	slices.Sort(numbers)
	for _, n := range slices.Compact(numbers) {
		e := reflect.New(v.Type().Elem()).Elem()
		if err := d.value(name+"."+member+strconv.Itoa(n), e); err != nil {
			return err
		}
		v.Set(reflect.Append(v, e))
	}
	return nil
}

func (d *decoder) scalar(name string, v reflect.Value) error {
	got, ok := d.form[name]
	if !ok {
		return nil
	}
	d.used[name] = true
	text := got[0]
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return Refuse("InvalidParameterValue", "Value (%s) for parameter %s is invalid. Expected a boolean.", text, name)
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return Refuse("InvalidParameterValue", "Value (%s) for parameter %s is invalid. Expected an integer.", text, name)
		}
		v.SetInt(n)
	default:
		return Refuse("InternalError", "parameter %s has a type that is not decoded: %s", name, v.Type())
	}
	return nil
}
