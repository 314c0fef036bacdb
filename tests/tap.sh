# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Sourced by every test that is a script: claims in TAP, from the project's root. $b is the build's
# folder, $work one of the test's own that goes with it.
#
#	. "$(dirname "$0")/../tap.sh"
#	ok "it has a version" "$b/flightllm" --version
#	grep -n $'\r' README.md | clean "no line ends as in DOS"
#	skip "a client in C++" "no g++"
#	done_testing

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
b=${B:-build}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
tap_count=0 tap_failed=0
shopt -s lastpipe	# clean stands at the end of pipes, and counts here

# tap_line RESULT TEXT: a claim whose truth is known, "ok" or "not ok".
tap_line()
{
	tap_count=$((tap_count + 1))
	[ "$1" = ok ] || tap_failed=$((tap_failed + 1))
	echo "$1 $tap_count - $2"
}

# Comments, of whatever comes in.
tap_comment()
{
	sed 's/^\(# \)\{0,1\}/# /'
}

# ok TEXT COMMAND...: what the command says is shown if it fails (but for claims of its own that hold).
ok()
{
	if "${@:2}" >"$work/.said" 2>&1; then
		tap_line ok "$1"
	else
		tap_line "not ok" "$1"
		grep -v "^ok " "$work/.said" | tail -n 40 | tap_comment
		return 1
	fi
}

# clean TEXT: holds when nothing comes in; what does come is why not.
clean()
{
	cat >"$work/.found"
	if [ ! -s "$work/.found" ]; then
		tap_line ok "$1"
	else
		tap_line "not ok" "$1"
		head -n 40 "$work/.found" | tap_comment
		echo "# findings: $(wc -l <"$work/.found")"
		return 1
	fi
}

# skip TEXT REASON: a claim that cannot be tried here.
skip()
{
	tap_line ok "$1 # SKIP $2"
}

# The same for all claims of a test, before the first.
skip_all()
{
	echo "1..0 # SKIP $*"
	exit 0
}

# adopt BEFORE AFTER <TAP: the claims of another program become ours, with new numbers and with these
# words around their texts; all else becomes comments. Leaves in $adopted how many there were.
adopt()
{
	local line text why result

	adopted=0
	while IFS= read -r line; do
		if [[ $line =~ ^(ok|not ok)\ [0-9]+\ (- )?(.*) ]]; then
			result=${BASH_REMATCH[1]} text=${BASH_REMATCH[3]} why=
			if [[ $text =~ ^(.*)\ ?#\ SKIP\ (.*) ]]; then
				text=${BASH_REMATCH[1]% } why=" # SKIP ${BASH_REMATCH[2]}" result=ok
			fi
			tap_line "$result" "$1$text$2$why"
			adopted=$((adopted + 1))
		elif [[ $line =~ ^1\.\.0\ .*SKIP\ (.*) ]]; then
			skip "$1all of it$2" "${BASH_REMATCH[1]}"
			adopted=$((adopted + 1))
		else
			tap_comment <<<"$line"
		fi
	done
}

# A word that is no command is a claim that nobody made: the test fails, in whatever subshell it was.
command_not_found_handle()
{
	echo "$1" >>"$work/.unknown"
	echo "$0: no command '$1'" >&2
	return 127
}

done_testing()
{
	[ ! -s "$work/.unknown" ] || clean "every command exists" <"$work/.unknown"
	echo "1..$tap_count"
	[ "$tap_failed" = 0 ]
	exit
}
