#!/bin/bash
# SPDX-License-Identifier: MIT
# What the eye should not have to check: style, sparse, licences, the library's symbols,
# headers under other languages, man pages against --help. Prints TAP; each finding is named.
# Needs `make user`; checkpatch and kernel headers are where tools/setup.sh puts them, and without
# them their claims are skipped.
. "$(dirname "$0")/tap.sh"
root=$PWD
cache=${FLIGHTLLM_CACHE:-${XDG_CACHE_HOME:-~/.cache}/flightllm}
checkpatch=$cache/selftests/scripts/checkpatch.pl

# Our files: what git knows and what it does not ignore, but for data and recorded outputs.
mapfile -t files < <(git ls-files -co --exclude-standard | grep -vE '^tests/(data|fuzz/corpus|compiler/cases)/' |
	while read -r f; do [ -f "$f" ] && echo "$f"; done)
[ ${#files[@]} -ge 100 ] || { echo "Bail out! git names only ${#files[@]} files"; exit 1; }
select_files() { printf '%s\n' "${files[@]}" | grep -E "$1" | grep -vE "${2:-^$}"; }

# --- licences, leftovers ---

for f in "${files[@]}"; do
	case $f in
	*.md | LICENSE | .gitignore | *.map) continue ;; # texts; the .map is ld's, LICENSE names it
	esac
	line=$(head -n 3 "$f" | grep -m 1 'SPDX-License-Identifier: ')
	case $f in
	kernel/include/drm/*) want='(GPL-2.0 WITH Linux-syscall-note) OR MIT' ;;
	kernel/include/*) want='GPL-2.0 OR MIT' ;;
	kernel/*) want='GPL-2.0' ;;
	*) want='MIT' ;;
	esac
	line=${line#*SPDX-License-Identifier: }
	line=${line% \*/}
	line=${line% -->}
	[ "${line//[()]/}" = "${want//[()]/}" ] || echo "$f: '$line', should be '$want'"
done | clean "every file names its licence in its first lines"

left='TO''DO|FIX''ME|HA''CK:'
grep -nE "\b($left)" "${files[@]}" | clean "nothing is left to do in a comment"
grep -nE '^ *# *include +["<](\.|.*/\.\./)' "${files[@]}" | clean "no include climbs out of its folder"
grep -nE '[[:blank:]]$' $(select_files '\.([ch]|def|sh|1)$|Makefile|Kbuild') |
	clean "no line ends in blanks"

# --- checkpatch --strict, lines of 100 ---

# check NAME IGNORED FILE...
check() {
	local name=$1 ignored=$2
	shift 2
	# From a folder of its own, for it leaves a cache file where it runs.
	(cd "$work" && ln -sfn "$root"/* . && perl "$checkpatch" --no-tree --strict --terse --show-types \
		--no-summary --max-line-length=100 --ignore "$ignored" -f "$@" 2>/dev/null |
		grep -E '(ERROR|WARNING|CHECK):') | clean "checkpatch --strict: $name"
}

# Tables of rows are macros of declarations that each reader expands to the columns it needs.
# The tag of a struct is no expression to be put in parentheses.
rows=MACRO_ARG_PRECEDENCE,COMPLEX_MACRO,MACRO_ARG_UNUSED,MACRO_ARG_REUSE,TRAILING_SEMICOLON,MULTISTATEMENT_MACRO_USE_DO_WHILE
# BIT() and static_assert() are the kernel's own; contracts compile in userspace too, where an
# assertion stands on the line under its struct. A layout's assertion is _Static_assert.
contracts=$rows,BIT_MACRO,LINE_SPACING,CAMELCASE
# How the kernel itself lays out TRACE_EVENT.
trace=OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT
# What only the kernel has: its types, helpers, and macros for attributes.
libc=PREFER_KERNEL_TYPES,ARRAY_SIZE,BIT_MACRO,STRCPY,STRNCPY,ENOSYS,PREFER_DEFINED_ATTRIBUTE_MACRO,PREFER_FALLTHROUGH
# volatile for what a signal or another process changes; typedefs are vector types; externs are
# libFuzzer's; names in camel case are libdrm's, libFuzzer's, inttypes.h's and C11's.
libc+=,VOLATILE,NEW_TYPEDEFS,AVOID_EXTERNS,CAMELCASE,STATIC_CONST_CHAR_ARRAY
# Messages and usage texts are for terminals of 80 columns and may name a word that is a function, or
# a type and a variable of the same name.
text=SPLIT_STRING,LONG_LINE_STRING,EMBEDDED_FUNCTION_NAME,QUOTED_WHITESPACE_BEFORE_NEWLINE,STRING_FRAGMENTS,REPEATED_WORD
# Rows again: one case of a switch or one broken field of a test on one line; a = b = c. 1e-9 is
# read as a subtraction, an initialiser's [row] as a subscript.
layout=TRAILING_STATEMENTS,MULTIPLE_ASSIGNMENTS,SUSPECT_COMMA_SEMICOLON,SPACING,BRACKET_SPACE
layout+=,OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT,LINE_SPACING
# A truth made of another, is_copy != (op != RUN) or found != NULL, is plainer with them; pointers to
# arrays are taken for functions.
layout+=,UNNECESSARY_PARENTHESES,COMPARISON_TO_NULL,FUNCTION_ARGUMENTS

if [ -r "$checkpatch" ]; then
	# A checker that finds nothing anywhere proves nothing.
	printf '// SPDX-License-Identifier: MIT\nint wrong( int a );\n' >"$work/wrong.c"
	(cd "$work" && perl "$checkpatch" --no-tree --strict --terse -f wrong.c 2>/dev/null) |
		grep -q 'ERROR: space prohibited' || echo "silent on a file with errors" | clean "checkpatch works"
	check "driver" MACRO_ARG_UNUSED $(select_files '^kernel/[^/]*\.[ch]$' '_trace\.h$')
	check "driver's trace points" $trace $(select_files '^kernel/[^/]*_trace\.h$')
	check "contracts" $contracts $(select_files '^kernel/include/.*\.h$')
	check "userspace" $rows,$libc,$text,$layout $(select_files '^(lib|compiler|emulator|tools|tests)/.*\.[ch]$')
else
	for name in "driver" "driver's trace points" "contracts" "userspace"; do
		skip "checkpatch --strict: $name" "no $checkpatch (tools/setup.sh --selftests)"
	done
fi

# --- sparse ---

if [ -e "$cache/headers/Makefile" ] && command -v sparse >/dev/null; then
	mkdir "$work/module"
	tar -C kernel --exclude-vcs-ignores -c . | tar -C "$work/module" -x
	make -s -C "$cache/headers" M="$work/module" W=1 C=2 CF="-Wsparse-error" modules 2>&1 |
		sed "s,$work/module,kernel," | clean "sparse and W=1: the module builds without a word"
	[ -e "$work/module/flightllm.ko" ] || echo "no flightllm.ko" | clean "the module is there"
	echo 'int flightllm_wrong(int __user *p); int flightllm_wrong(int __user *p) { return *p; }' \
		>>"$work/module/flightllm_gem.c"
	make -s -C "$cache/headers" M="$work/module" C=1 modules 2>&1 |
		grep -q 'dereference of noderef' || echo "silent on a read through a user pointer" | clean "sparse works"
else
	skip "sparse and W=1: the module builds without a word" "no kernel headers or no sparse (tools/setup.sh)"
fi

# --- the library's symbols ---

nm -D --defined-only "$b/libflightllm.so.0" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
	sort >"$work/exported"
awk '/global:/ { on = 1; next } /local:/ { on = 0 } on' lib/libflightllm.map |
	tr -s '; \t' '\n' | grep . >"$work/named"
[ -s "$work/exported" ] || { echo "Bail out! $b/libflightllm.so.0 exports nothing"; exit 1; }
while read -r symbol; do
	while read -r pattern; do
		# shellcheck disable=SC2053 # a pattern, as ld takes it
		[[ $symbol == $pattern ]] && continue 2
	done <"$work/named"
	echo "$symbol"
done <"$work/exported" | clean "libflightllm.so exports nothing that its .map does not name"
while read -r pattern; do
	while read -r symbol; do
		# shellcheck disable=SC2053
		[[ $symbol == $pattern ]] && continue 2
	done <"$work/exported"
	echo "$pattern"
done <"$work/named" | clean "libflightllm.so exports all that its .map names"
for header in flightllm flightllm_isa; do
	gcc -Ikernel/include -I. -fsyntax-only -aux-info "$work/$header.aux" -x c "lib/$header.h" 2>&1
	grep "^/\* lib/$header.h:" "$work/$header.aux" | grep -oE '\bflm_[a-z0-9_]+ \(' | tr -d ' (' |
		sort -u >"$work/$header.functions"
	[ -s "$work/$header.functions" ] || echo "no function in lib/$header.h"
	comm -23 "$work/$header.functions" "$work/exported" | sed "s,$, of lib/$header.h,"
done | clean "every function of the public headers is exported"
sort -u "$work"/*.functions | comm -13 - "$work/exported" |
	clean "and every exported function stands in a public header"

# --- pictures ---

ok "the picture of the architecture has the numbers of today" \
	diff .github/architecture.svg <(tests/pictures.sh architecture)

# --- headers under other compilers, languages and standards ---

mapfile -t drm < <(pkg-config --cflags libdrm | tr ' ' '\n' | sed -n 's/^-I//p')
system=("${drm[@]/#/-isystem}")
public=(lib/flightllm.h lib/flightllm_isa.h kernel/include/drm/flightllm_accel.h)
for compiler in gcc clang; do
	if ! command -v $compiler >/dev/null; then
		skip "$compiler takes the public headers" "no $compiler"
		continue
	fi
	for header in "${public[@]}"; do
		for language in "c++ -std=c++17" "c -std=gnu11"; do
			# By #include and not as the main file: an unused inline is no finding in a header.
			echo "#include \"$header\"" | $compiler -Wall -Wextra -Werror -fsyntax-only -Ikernel/include \
				"${system[@]}" -I. -x $language - 2>&1
		done
	done | clean "$compiler takes the public headers, as C and as C++"
	echo '#include "kernel/include/drm/flightllm_accel.h"' |
		$compiler -std=c90 -pedantic -Wall -Wextra -Werror -fsyntax-only -I. "${system[@]}" -x c - 2>&1 |
		clean "$compiler takes the ioctl header as pedantic C90"
done

# --- figures ---

mkdir "$work/figures"
{ emulator/figures/draw.sh "$work/figures" 2>&1
  diff -rq -x '*.sh' emulator/figures "$work/figures"; } |
	clean "the figures of SPEC.md are what emulator/figures/draw.sh draws"
grep -oE 'figures/[a-z]+\.svg' emulator/SPEC.md | sort -u >"$work/linked"
(cd emulator && printf '%s\n' figures/*.svg) | diff "$work/linked" - |
	clean "each figure stands in SPEC.md, and each that stands there is drawn"

# dead_links FILE...: what they link to and is not there: 'FILE: LINK'.
dead_links() {
	local file link

	for file; do
		grep -oE '\]\([^)#]+' "$file" | sed 's/^](//' | grep -vE '^[a-z]+:' | while read -r link; do
			[ -e "$(dirname "$file")/$link" ] || echo "$file: $link"
		done
	done
}
printf '[a](dead) [b](links.md) [c](#here) [d](https://e.org)\n![f](links.md#g)\n' >"$work/links.md"
ok "a dead link is found" [ "$(dead_links "$work/links.md")" = "$work/links.md: dead" ]
dead_links $(select_files '\.md$') | clean "every link of a text leads to a file"

# --- man pages and --help ---

# Options in a text: long ones, and short ones that stand alone.
options() {
	grep -oE -e '--[a-z][a-z0-9-]*' -e '(^|[^a-zA-Z0-9-])-[a-zA-Z]($|[^a-zA-Z0-9-])' |
		grep -oE -e '-{1,2}[a-zA-Z][a-z0-9-]*' | sort -u
}
# From a page but its examples, without roff: mdoc's "Fl -x" is --x, "Fl x" -x; \- is a minus, \fX a font.
page_options() {
	sed -E '/^\.S[Hh] EXAMPLES/,/^\.S[Hh] [^E]/d; s/^\.\\".*//; s/\bFl ([a-zA-Z-])/ -\1/g; s/\\f[A-Z]//g; s/\\-/-/g' "$1" | options
}
# manual NAME TEXT-OF-HELP
manual() {
	if [ ! -s "tools/$1.1" ] || [ ! -s "$2" ]; then
		echo "no tools/$1.1, or $1 --help says nothing" | clean "$1.1 has the options of --help"
		return
	fi
	options <"$2" >"$work/help" && page_options "tools/$1.1" >"$work/page"
	{ comm -23 "$work/help" "$work/page" | sed 's/$/: not in the page/'
	  comm -13 "$work/help" "$work/page" | sed 's/$/: not in --help/'; } |
		clean "$1.1 has the options of --help, and no others"
}
for tool in flightllm-cc flightllm-emu flightllm-vm; do
	"$b/$tool" --help >"$work/$tool.help" 2>&1
	manual $tool "$work/$tool.help"
done
"$b/flightllm" --help >"$work/flightllm.help"
commands=$(sed -nE 's/^  ([a-z]+)  .*/\1/p' "$work/flightllm.help")
for command in $commands; do
	"$b/flightllm" "$command" --help >>"$work/flightllm.help"
	grep -q "^\.SS $command\$\|^\.Ss $command\$" tools/flightllm.1 || echo "$command"
done | clean "flightllm.1 has a section for each sub-command"
manual flightllm "$work/flightllm.help"

done_testing
