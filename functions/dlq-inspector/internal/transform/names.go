package transform

import (
	"strings"
	"sync"
)

// care is what a function needs so that no digit is lost.
type care int

const (
	none    care = iota // it moves numbers, or has nothing to do with them
	sized               // it writes the whole value out, which must not be too large
	guarded             // it reads numbers as floating point: they must have an equal one
	whole               // it reads numbers as integers: they must be some
	counted             // its arguments are such integers
	placed              // its first argument is a path: an index must not make an array too large
)

// cares has the functions that a program may call, with their number of arguments. All others are unknown to it: those that read
// anything but the value (input, env, now, $ENV, …), those whose results are rounded (sqrt, sin, pow, …), and new ones until somebody has
// looked at them.
var cares = sync.OnceValue(func() map[string]care {
	out := map[string]care{}
	for care, names := range map[care]string{
		none: `add/0 add/1 all/0 all/1 all/2 any/0 any/1 any/2 arrays/0 ascii_downcase/0 ascii_upcase/0 booleans/0 capture/1 capture/2 del/1
			delpaths/1 empty/0 endswith/1 error/0 error/1 explode/0 first/0 first/1 from_entries/0 fromjson/0 getpath/1 has/1 in/1
			isempty/1 iterables/0 keys/0 last/0 last/1 length/0 limit/2 ltrim/0 ltrimstr/1 map/1 map_values/1 match/1 match/2 not/0
			nth/1 nth/2 nulls/0 numbers/0 objects/0 path/1 paths/0 paths/1 pick/1 recurse/0 recurse/1 recurse/2 repeat/1 reverse/0
			rtrim/0 rtrimstr/1 scalars/0 scan/1 scan/2 select/1 skip/2 split/1 split/2 splits/1 splits/2 startswith/1 strings/0 sub/2 sub/3 gsub/2 gsub/3
			strptime/1 test/1 test/2 to_entries/0 toboolean/0 tonumber/0 trim/0 trimstr/1 type/0 until/2 utf8bytelength/0 values/0
			walk/1 while/2 with_entries/1 abs/0 fabs/0 fromdate/0 fromdateiso8601/0 todate/0 todateiso8601/0`,
		sized: `tojson/0 tostring/0 join/1`,
		guarded: `ceil/0 contains/1 flatten/0 flatten/1 floor/0 group_by/1 index/1 indices/1 inside/1 max/0 max_by/1 min/0 min_by/1 rindex/1
			round/0 sort/0 sort_by/1 trunc/0 unique/0 unique_by/1`,
		whole:   `gmtime/0 implode/0 mktime/0 strftime/1`,
		counted: `range/1 range/2 range/3`,
		placed:  `setpath/2`,
	} {
		for _, name := range strings.Fields(names) {
			out[name] = care
		}
	}
	return out
})
