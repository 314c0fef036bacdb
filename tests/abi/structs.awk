# SPDX-License-Identifier: MIT
# Structs, enums and constants of the contracts' headers as rows for spec.c. The compiler finds offsets, sizes
# and values; here are only names, types and what the comments say. A line of another form is an error: nothing
# is left out unseen. Macros with parameters and FLM_USE_ are no contract, and an enum that is made of included
# rows is printed from those.

function refuse(problem)
{
	printf "%s:%d: %s: %s\n", FILENAME, FNR, problem, $0 >"/dev/stderr"
	exit failed = 1
}

# A C string of a comment's text, as it may stand in a table.
function text(s)
{
	gsub(/__le/, "le", s)
	gsub(/__u8/, "u8", s)
	gsub(/\\/, "\\\\", s)
	gsub(/"/, "\\\"", s)
	gsub(/\n/, "\\n", s)
	return "\"" s "\""
}

# Takes the comment that ends the line, and the space before it.
function take_comment(    start, comment)
{
	start = index($0, "/* ")
	if (!start)
		return ""
	if (!sub(/ \*\/$/, ""))
		refuse("a comment does not end on its line")
	comment = substr($0, start + 3)
	$0 = substr($0, 1, start - 1)
	sub(/[ \t]+$/, "")
	return comment
}

# Printed before the first struct or constant of its section.
function heading()
{
	if (section)
		printf "SECTION(%s)\n", text(section)
	section = ""
}

function value(name, number, meaning)
{
	return sprintf("%s(%s, %s)\n", number ~ /^0x/ ? "HEX" : number ~ /^"/ ? "TEXT" : "VALUE", name, meaning)
}

FNR == 1 {
	section = file = FILENAME
	sub(/.*\//, "", section)
	file = section
	lead = ""
	was_define = 0
}

# --- comments and lines of several lines ---

in_comment {
	end = sub(/ ?\*\/$/, "")
	sub(/^ \* ?/, "")
	lead = lead (lead && $0 ? "\n" : "") $0
	in_comment = !end
	next
}
in_macro { in_macro = /\\$/; next }
in_function { in_function = !/^}/; next }
!inside && /^\/\* ---- .* ---- \*\/$/ {
	gsub(/^\/\* ---- | ---- \*\/$/, "")
	section = file ": " $0
	next
}
!inside && /^\/\*$/ { lead = ""; in_comment = 1; next }
!inside && /^\/\* .* \*\/$/ { lead = substr($0, 4, length($0) - 6); was_define = 0; next }

# --- constants ---

/^#define [A-Z_]+\(/ { in_macro = /\\$/; was_define = 0; next }
/^#define (FLIGHTLLM_|FLM_USE_)/ { next }
/^#define FLM_[A-Z0-9_]+[ \t]/ {
	meaning = text(take_comment())
	name = $2
	sub(/^#define [A-Z0-9_]+[ \t]+/, "")
	heading()
	if (!was_define)
		printf "VALUES(\"constants\", %s)\n", text(lead)
	printf "%s", value(name, $0, meaning)
	was_define = 1
	next
}

# --- structs and enums ---

/^struct [a-z0-9_]+ \{$/ {
	inside = "struct"
	tag = $2
	heading()
	printf "STRUCT(%s, %s)\n", tag, text(lead)
	next
}
/^enum ([a-z_]+ )?\{$/ {
	inside = "enum"
	title = NF == 3 ? "enum " $2 : "constants"
	rows = ""
	is_included = is_bits = 0
	next
}
inside && /^};$/ {
	if (inside == "struct") {
		printf "END(%s)\n", tag
	} else if (!is_included) {
		heading()
		printf "%s(%s, %s)\n%s", is_bits ? "FIELDS" : "VALUES", text(title), text(lead), rows
	}
	inside = lead = ""
	next
}
inside && /^\t\/\* .* \*\/$/ { refuse("a comment beside nothing") }
inside == "struct" {
	meaning = text(take_comment())
	if (!match($0, /^\t(__le16|__le32|__le64|__u8|struct flm_[a-z_]+) [a-z0-9_]+(\[[^]]*\])*;$/))
		refuse("no field of a contract")
	kind = /\[\]/ ? "TAIL" : /\]\[/ ? "MATRIX" : /\[/ ? "ARRAY" : "FIELD"
	sub(/[[;].*/, "")
	name = $NF
	sub(/^\t/, "")
	sub(/ [a-z0-9_]+$/, "")
	printf "%s(%s, %s, %s, %s)\n", kind, tag, $0, name, meaning
	next
}
inside == "enum" && /^#include/ { is_included = 1; next }
inside == "enum" && is_included { next }
inside == "enum" {
	meaning = text(take_comment())
	sub(/,$/, "")
	if (/^\tFLM_[A-Z0-9_]+_HI = [0-9]+,[ \t]+FLM_[A-Z0-9_]+_LO = [0-9]+$/) {
		is_bits = 1
		sub(/_HI$/, "", $1)
		rows = rows sprintf("BITS(%s, %s)\n", $1, meaning)
	} else if (/^\tFLM_[A-Z0-9_]+ = [^,]+$/) {
		rows = rows value($1, $3, meaning)
	} else {
		refuse("no constant of a contract")
	}
	next
}

# --- what else a header has ---

/^$/ || /^#(ifndef|endif|include)/ { lead = ""; was_define = 0; next }
/^_Static_assert\(.*\);$/ { next }
/^static inline / { in_function = 1; next }
{ refuse("no line of a contract") }

END {
	if (!failed && (inside || in_comment))
		refuse("the header ends inside something")
	exit failed
}
