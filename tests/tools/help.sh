#!/bin/bash
# SPDX-License-Identifier: MIT
# --help, the manual and the programs say the same, option by option and command by command; and
# what --json prints is JSON with the keys that the manual names. Prints TAP.
. "$(dirname "$0")/tools.sh"

commands=(run list info bench perplexity dis)
common='--device
--emulate
--help
--json
--version
-V
-d
-h'

same() {
	[ "$1" = "$2" ] || { diff <(echo "$1") <(echo "$2") | sed 's/^/# /'; return 1; }
}

# Options that stand at the beginning of a line of --help.
help_options() {
	grep -E '^ +-(-|[a-zA-Z][ ,])' | sed -E 's/^ +//; s/  .*//' | grep -oE -e '--?[a-zA-Z][a-z0-9-]*' | sort -u
}

# section COMMAND: the command's part of flightllm.1; with no name, what is before the first.
section() {
	awk -v name="$1" '/^\.S[sh] / { on = $0 == ".Ss " name; if (name == "") exit } name == "" { on = 1 } on' \
		<(sed '1,/^\.Sh DESCRIPTION/d' "$source/tools/flightllm.1")
}

# Options of a page that have an entry of their own: mdoc's ".It Fl p , Fl -prompt".
page_options() {
	grep '^\.It Fl' | grep -oE 'Fl -?[a-zA-Z][a-z0-9-]*' | sed 's/^Fl /-/' | sort -u
}

# Options in a table for getopt_long(): "--name" and, where there is one, its letter.
table_options() {
	grep -hoE '\{ "[a-z0-9-]+", (no|required|optional)_argument, NULL, [^}]*' "$@" |
		sed -E "s/\{ \"([a-z0-9-]+)\".*'(.)'.*/--\1\n-\2/; s/\{ \"([a-z0-9-]+)\".*/--\1/" | sort -u
}

# --- flightllm ---

for c in "${commands[@]}"; do
	"$b/flightllm" $c --help | help_options >"$work/help"
	mine=$(comm -23 "$work/help" <(echo "$common"))
	ok "$c: the manual has the options of --help, and no others" \
		same "$mine" "$(section $c | page_options)"
	[[ $c =~ ^(list|dis)$ ]] && has='--help
--json
--version
-V
-h' || has=$common
	ok "$c: --help has what commands share" same "$(comm -12 "$work/help" <(echo "$common"))" "$has"
	while read -r option; do
		"$b/flightllm" $c "$option" </dev/null 2>&1 >/dev/null | grep "unknown option" && echo "$option"
	done <"$work/help" >"$work/refused"
	ok "$c takes each option of its --help" [ ! -s "$work/refused" ] || sed 's/^/# /' "$work/refused"
	missing=$(comm -23 <(table_options "$source/tools/$c.c") "$work/help")
	ok "$c: --help has each option that it takes" same "$missing" ""
	ok "$c --version is the program's" same "$("$b/flightllm" $c --version)" "$("$b/flightllm" --version)"
done
ok "the manual has what commands share" same "$(section "" | page_options)" "$common"
ok "flightllm --help lists all commands" same \
	"$("$b/flightllm" --help | sed -nE 's/^  ([a-z]+)  .*/\1/p')" "$(printf '%s\n' "${commands[@]}")"

# --- the others ---

"$b/flightllm-cc" --help | help_options >"$work/help"
ok "flightllm-cc: --help has each option that it takes, and no others" \
	same "$(table_options "$source/compiler/main.c")" "$(cat "$work/help")"
ok "flightllm-cc: the manual has the options of --help, and no others" same "$(
	awk '/^\.TP/ { getline; print }' "$source/tools/flightllm-cc.1" | sed 's/\\f[A-Z]//g; s/\\-/-/g' |
		grep -oE -e '(^|[ "])--?[a-zA-Z][a-z-]*' | tr -d ' "' | sort -u)" "$(cat "$work/help")"

# Their --help has "-h, --help, -V, --version" in one line.
"$b/flightllm-emu" --help | help_options >"$work/help"
ok "flightllm-emu: --help has each option that it takes, and no others" \
	same "$(table_options "$source/emulator/main.c")" "$(cat "$work/help")"
ok "flightllm-emu: the manual has the options of --help, and no others" \
	same "$(page_options <"$source/tools/flightllm-emu.1")" "$(cat "$work/help")"
"$b/flightllm-vm" --help | help_options >"$work/help"
ok "flightllm-vm: --help has each option that it takes, and no others" same \
	"$(sed -nE 's/^\t\t((-[a-zA-Z] \| )?--[a-z-]+)\) .*;;.*/\1/p' "$source/tools/flightllm-vm" |
		sed 's/ | /\n/' | sort -u)" "$(cat "$work/help")"
ok "flightllm-vm: the manual has the options of --help, and no others" \
	same "$(page_options <"$source/tools/flightllm-vm.1")" "$(cat "$work/help")"
for p in flightllm flightllm-cc flightllm-emu flightllm-vm; do
	ok "$p --version begins with name and version" grep -q "^$p 0\.1\.0\b" <("$b/$p" --version)
	if command -v man >/dev/null; then
		man --warnings -E UTF-8 -l "$source/tools/$p.1" >/dev/null 2>"$work/err"
		ok "the manual of $p has no mistakes in its form" [ ! -s "$work/err" ] || sed 's/^/# /' "$work/err"
	else
		skip "the manual of $p has no mistakes in its form" "no man"
	fi
done

# --- JSON ---

# All keys of the objects in a text, but those of the compiler's notes, which are its own.
json_keys() {
	perl -MJSON::PP -0777 -ne '
		sub walk { my $v = shift;
			if (ref $v eq "HASH") { for (sort keys %$v) { $seen{$_} = 1; walk($v->{$_}) if $_ ne "notes" } }
			elsif (ref $v eq "ARRAY") { walk($_) for @$v } }
		walk(JSON::PP->new->utf8->decode($_)); print "$_\n" for sort keys %seen' "$1"
}

# Keys of a page: the words of the .Cm lines that follow a line with "JSON keys", and its paragraph.
page_keys() {
	awk '/JSON keys/ { on = 1; next } /^\.(Pp|It|El|S[hs])/ { on = 0 } on && /^\.Cm/' |
		grep -oE '\b[a-z][a-z0-9_]+\b' | sort -u
}

# json WHAT PAGE-KEYS PROGRAM ARGUMENT...: standard output parses and has just these keys.
json() {
	local what=$1 keys=$2
	shift 2
	"$b/$1" "${@:2}" >"$work/out" 2>"$work/err" </dev/null
	ok "$what --json has the keys that the manual names" \
		same "$(json_keys "$work/out" | grep -vx schema)" "$keys" || sed 's/^/# /' "$work/err" "$work/out"
}

keys() {
	section "$1" | page_keys
}

json run "$(keys run)" flightllm run fables.flm --emulate -n 5 -p "A cat" --json
ok "and names its schema" grep -q '^  "schema": "flightllm/1",$' "$work/out"
json "run --chat" "$(keys run)" flightllm run fables.flm --emulate -n 5 --chat -p "A cat" --json
json "info of a model" "$(section info | sed '/keys of a card/,$d' | page_keys)" flightllm info fables.flm --json
json "info of a card" "$(section info | sed -n '/keys of a card/,$p' | page_keys)" \
	flightllm info --emulate --json
json bench "$(keys bench)" flightllm bench fables.flm --emulate -p 4 -n 4 -r 1 --json
json perplexity "$(keys perplexity)" flightllm perplexity fables.flm --emulate --file "$model/eval.txt" \
	--windows 1 --reference "$model" --json
json dis "$(keys dis)" flightllm dis fables.flm --unit sys --json
"$b/flightllm" list --json >"$work/out" 2>/dev/null
ok "list --json has a list of cards" grep -qxE 'cards|bus|node' <(json_keys "$work/out")
json flightllm-cc "$(sed 's/\\-/-/g; s/^\.BR /.Cm /' "$source/tools/flightllm-cc.1" |
	awk '/JSON keys/ { on = 1; next } /^\.TP/ { on = 0 } on' | grep -oE '[a-z][a-z_]+' | sort -u)" \
	flightllm-cc "$model" -o json.flm --json

# Exit codes are rows: the manual lists all of them, and flightllm-vm, a script, has the same numbers.
exit_rows() {
	sed -nE 's/^EXIT\(([A-Z_]+), ([0-9]+), "(.*)"\)$/\1 \2 \3/p' "$source/kernel/include/flightllm/names.def"
}
exit_rows >"$work/exits"
ok "there are ten exit codes" [ "$(wc -l <"$work/exits")" = 10 ]
sed -n '/^\.Sh EXIT STATUS/,/^\.Sh EXAMPLES/p' "$source/tools/flightllm.1" | tr '\n' ' ' >"$work/exit_text"
while read -r _ number meaning; do
	grep -qF " $number $meaning," "$work/exit_text" || echo "$number $meaning"
done <"$work/exits" | clean "flightllm.1 has all exit codes"
grep -oE '\bEXIT_[A-Z]+=[0-9]+' "$source/tools/flightllm-vm" | while IFS='=' read -r name number; do
	grep -q "^${name#EXIT_} $number " "$work/exits" || echo "$name=$number"
done | clean "flightllm-vm has the exit codes of the rows"

# Names come from whoever made the file: JSON stays JSON.
cp -r "$model" $'b\xffd "model"' && "$b/flightllm-cc" $'b\xffd "model"' -o odd.flm --no-progress >/dev/null
"$b/flightllm" info odd.flm --json >"$work/out"
ok "a model whose name is no UTF-8 has JSON all the same" \
	grep -q '^  "name": "b?d \\"model\\"",$' "$work/out" || sed 's/^/# /' "$work/out"
ok "and it parses" grep -qx name <(json_keys "$work/out")
done_testing
