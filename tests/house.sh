#!/bin/bash
# SPDX-License-Identifier: MIT
# What a reader stumbles over, counted: long sentences and lines of SPEC.md, names that stand twice,
# long functions, long files. Prints TAP. Each counter is first tried on what it must find.
. "$(dirname "$0")/tap.sh"

# These must find nothing. What another counter finds is told, and skipped.
must="functions files sentences lines names"

# --- what is long all the same, and why ---

long_functions_of_ours=(
	tools/flightllm-vm:parse_options # a case an option
	kernel/flightllm_queue.c:flightllm_queue_new	# a field a line, then the ladder that undoes them
)
long_files_of_ours=(
	emulator/SPEC.md	# the card's manual: one file to search, and to print
	kernel/include/drm/flightllm_accel.h	# half of it is the manual of the ioctls
	kernel/flightllm_gem.c	# an object and its row
	tools/run.c	# a prompt, a chat and a terminal's signals
	tools/flightllm-vm	# one script to copy to another machine
)
# Tests are cases in a row, read one at a time: they may have 900 lines.

# --- the counters: each prints its findings, a line each ---

# prose FILE: 'LINE TEXT' for each paragraph and item of a list; no headings, tables, figures and code.
prose() {
	awk 'function end() { if (text != "") print first, text; text = "" }
		/^ *```/ { end(); fenced = !fenced; next }
		fenced || /^ *$/ || /^(\||#|!\[)/ || (text == "" && /^(    |\t)/) { end(); next }
		/^ *([-*]|[0-9]+\.) / { end(); sub(/^ *([-*]|[0-9]+\.) /, "") }
		{ if (text == "") first = FNR; sub(/^ */, ""); text = text == "" ? $0 : text " " $0 }
		END { end() }' "$1"
}

# sentences <PROSE: 'LINE TEXT' for each sentence, the line where its paragraph begins.
sentences() {
	awk '{ line = $1; sub(/^[0-9]+ /, "")
		while (match($0, /[.!?][)*"`]* +[A-Z0-9`*("]/)) {
			print line, substr($0, 1, RSTART + RLENGTH - 2)
			$0 = substr($0, RSTART + RLENGTH - 1)
		}
		print line, $0 }'
}

# long_sentences FILE: those over 30 words.
long_sentences() {
	prose "$1" | sentences | awk -v file="$1" 'NF > 31 { line = $1; sub(/^[0-9]+ /, "")
		print file ":" line ": " NF " words: " substr($0, 1, 60) "..." }'
}

# long_lines FILE: those over 100 characters, apart from tables and code.
long_lines() {
	awk '/^ *```/ { fenced = !fenced }
		!fenced && !/^(\||    |\t)/ && length > 100 { print FILENAME ":" FNR ": " length " characters" }' "$1"
}

# names_twice FILE...: the same three or more names in two places, as strings in braces, as rows of
# a .def, as answers or comparisons of a function, or as a list in a text; and a constant of an enum
# in two files. What tests and manuals say as well is told behind the others.
names_twice() {
	perl -e '
		my (%at, %constants);
		sub note {
			my ($place, @names) = @_;
			my %set = map { s/^[@-]+//r => 1 } @names;
			return if keys %set < 3 || grep { /^(or|and|in|of|the)$/ || !/^[a-z][a-z0-9_.-]*$/ } keys %set;
			push @{$at{join ", ", sort keys %set}}, $place;
		}
		my $name = qr/[a-z][a-z0-9_.-]*[a-z0-9_]|[a-z]/;
		for my $file (@ARGV) {
			open my $f, "<", $file or die "$file: $!";
			local $/;
			my $text = <$f>;
			my $place = sub { $file . ":" . (1 + (substr($text, 0, $_[0]) =~ tr/\n//)) };
			my @said;
			if ($file =~ /\.1$/) {
				# mdoc: names after .Cm, and words between them on lines of their own.
				$text =~ s/^\.(Cm|Ar|Ql|Sy) //mg;
				$text =~ s/ ,/,/g;
				@said = [0, $text =~ s/\n/ /gr];
			} else {
				$text =~ s{/\*.*?\*/}{$& =~ s/[^\n]//gr}gse;
				while ($text =~ /((?:"(?:[^"\\\n]|\\.)*"\s*)+)/g) {
					my ($from, $string) = ($-[0], $1);
					push @said, [$from, $string =~ s/"\s*"//gr =~ s/"\s*$//r =~ s/^"//r];
				}
			}
			for (@said) {
				my ($from, $string) = @$_;
				note($place->($from), split /, (?:or|and) |, | or | and /, $&)
					while $string =~ /(?<![\w-])$name(?:, $name)+(?:,? (?:or|and) $name)?(?![\w-])/g;
			}
			while ($text =~ /\{([^{}]*)\}/g) {
				my $from = $-[0];
				my @parts = (split /,/, $1 =~ s/\[[^]]*\]\s*=//gr =~ s/,?\s*$//r);
				note($place->($from), map { /"(.*)"/ } @parts) unless grep { !/^\s*"[^"]*"\s*$/ } @parts;
			}
			if ($file =~ /\.def$/) {
				my (%rows, %from);
				while ($text =~ /^\s*([A-Z_]+)\([^"\n]*"([^"\n]*)"/mg) {
					push @{$rows{$1}}, $2;
					$from{$1} //= $-[0];
				}
				note($place->($from{$_}), @{$rows{$_}}) for sort keys %rows;
			}
			while ($text =~ /^\{\n(.*?)^\}/msg) {
				my ($body, $from) = ($1, 0 + $-[0]);
				note($place->($from), $body =~ /return "([^"]*)"/g);
				note($place->($from), $body =~ /str(?:n?case)?cmp\([^"()]*, "([^"]*)"\)/g);
			}
			while ($text =~ /\benum\b[^;{(]*\{([^{}]*)\}/g) {
				my ($list, $from) = ($1, 0 + $-[0]);
				push @{$constants{$_}}, $place->($from) for map { /^\s*([A-Z]\w+)\s*=/ ? $1 : () } split /,/, $list;
			}
		}
		sub report {
			my ($what, %seen) = shift;
			my @places = grep { !$seen{$_}++ } @_;
			my @ours = grep { !m{^tests/|\.1:} } @places;
			my @others = grep { m{^tests/|\.1:} } @places;
			print "$what: @ours", @others ? " (and @others)" : "", "\n" if @ours > 1;
		}
		report($_, @{$at{$_}}) for sort keys %at;
		report($_, @{$constants{$_}}) for sort keys %constants;' "$@"
}

# long_functions FILE...: those over 60 lines, from brace to brace.
long_functions() {
	awk 'FNR == 1 { start = 0 }
		/^[a-z_]+\(\) *\{$/ { head = $0; start = FNR }
		/^\{$/ { start = FNR }
		/^[a-z].*\(/ && !/;$/ && !start { head = $0 }
		/^\}/ && start {
			if (FNR - start + 1 > 60) {
				sub(/\(.*/, "", head); sub(/.*[ *]/, "", head)
				print FILENAME ":" head " " FNR - start + 1 " lines"
			}
			start = 0
		}' "$@"
}

# long_files FILE...
long_files() {
	local file lines

	for file; do
		lines=$(wc -l <"$file")
		case $file in
		tests/*) [ "$lines" -gt 900 ] ;;
		*) [ "$lines" -gt 600 ] ;;
		esac && echo "$file $lines lines"
	done
}

# but NAME...: what comes in, without lines that begin with a name; and the names that stand on none.
but() {
	awk -v names="$*" 'BEGIN { n = split(names, list, " "); for (i = 1; i <= n; i++) has[list[i]] = 1 }
		$1 in has { used[$1] = 1; next }
		{ print }
		END { for (i = 1; i <= n; i++) if (!(list[i] in used)) print list[i] " is not long; take it from the list" }'
}

# --- each finds what it must ---

# finds WHAT EXPECTED COMMAND...: the command prints just these lines.
finds() {
	ok "$1 is found, and nothing else" diff <(echo "$2") <("${@:3}")
}

words() { printf Word; printf " word%.0s" $(seq 2 "$1"); }
line() { printf "x%.0s" $(seq "$1"); echo; }
{
	echo "# $(words 40)"
	echo "$(words 29) end. $(words 30) end, in"; echo "two lines."; echo "Short, $(words 12), e.g. so."
	echo "- $(words 30)"; echo "- $(words 31)"
	echo; echo "    $(words 40)"; echo "| $(words 40)|"; echo '```'; words 40; echo; echo '```'
} >"$work/prose.md"
finds "a sentence of 31 words" "$work/prose.md:2: 34 words: $(words 12) ...
$work/prose.md:6: 31 words: $(words 12) ..." long_sentences "$work/prose.md"
{ line 100; line 101; echo "    $(line 101)"; echo "| $(line 101)"; echo '```'; line 101; echo '```'; } >"$work/lines.md"
finds "a line of 101 characters" "$work/lines.md:2: 101 characters" long_lines "$work/lines.md"

cat >"$work/a.c" <<'END'
static const char *const colours[] = { "red", "green", "blue" };
static const char *const two[] = { "one", "two" }, *const single[] = { "up", "down", "left" };
enum { RED = 1, GREEN = 2 };
/* circle, square or star */
static int f(int circle, int square, int star) { return g(circle, square, star); }
END
cat >"$work/b.c" <<'END'
static const char *const names[] = { [BLUE] = "blue", [RED] = "red", [GREEN] = "green", };
static const char *const again[] = { "one", "two" };
static const char help[] = "  --colour NAME  one of red, green "
	"or blue\n  --shape NAME  square, circle and star\n";
enum { RED = 1 };
const char *shape(int s)
{
	if (s)
		return s > 1 ? NULL : "circle";
	if (!s)
		return "square";
	return "star";
}
int parse(const char *s)
{
	return !strcmp(s, "circle") ? 1 : !strcmp(s, "square") ? 2 : !strcmp(s, "star") ? 3 : 0;
}
END
printf 'SHAPE(STAR, "star")\nSHAPE(SQUARE, "square")\nSHAPE(CIRCLE, "circle")\n' >"$work/c.def"
printf '.Cm red , green\nor\n.Cm blue\n' >"$work/d.1"
(cd "$work" && names_twice a.c b.c c.def d.1) >"$work/names"
finds "a name that stands twice" "blue, green, red: a.c:1 b.c:3 b.c:1 (and d.1:1)
circle, square, star: b.c:3 b.c:15 c.def:1
RED: a.c:3 b.c:5" cat "$work/names"

{ echo "int f(void)"; echo "{"; line 58; seq 58; echo "}"; } >"$work/f.c"
{ echo "static void g(int a,"; echo "	int b)"; echo "{"; seq 59; echo "}"; } >>"$work/f.c"
{ echo "h() {"; seq 59; echo "}"; } >"$work/f.sh"
finds "a function of 61 lines" "$work/f.c:f 61 lines
$work/f.c:g 61 lines
$work/f.sh:h 61 lines" long_functions "$work/f.c" "$work/f.sh"
seq 600 >"$work/600" && seq 601 >"$work/601"
finds "a file of 601 lines" "$work/601 601 lines" long_files "$work/600" "$work/601"
finds "a name that need not be on a list" "b 61 lines
c is not long; take it from the list" but a c < <(printf 'a 70 lines\nb 61 lines\n')

# --- the house ---

# house COUNTER TEXT <findings
house() {
	cat >"$work/findings"
	if [[ " $must " = *" $1 "* ]] || [ ! -s "$work/findings" ]; then
		clean "$2" <"$work/findings"
	else
		head -n 100 "$work/findings" | tap_comment
		skip "$2" "$(wc -l <"$work/findings") stand there"
	fi
}

mapfile -t files < <(git ls-files -co --exclude-standard | grep -vE '^tests/(data|fuzz/corpus|compiler/cases)/' |
	while read -r f; do [ -f "$f" ] && echo "$f"; done)
[ ${#files[@]} -ge 100 ] || { echo "Bail out! git names only ${#files[@]} files"; exit 1; }
select_files() { printf '%s\n' "${files[@]}" | grep -E "$1" | grep -vE "${2:-^$}"; }

spec=emulator/SPEC.md
echo "# $spec: $(prose $spec | sentences | wc -l) sentences"
long_sentences $spec | house sentences "SPEC.md has no sentence over 30 words"
long_lines $spec | house lines "SPEC.md has no line over 100 characters but in tables and code"
mapfile -t list < <(select_files '\.([ch]|def|1)$')
names_twice "${list[@]}" | house names "no names stand in two places"
mapfile -t list < <(select_files '\.([ch]|sh)$|^tools/flightllm-vm$' '^tests/')
long_functions "${list[@]}" | but "${long_functions_of_ours[@]}" |
	house functions "no function over 60 lines outside tests but those with a reason"
long_files "${files[@]}" | but "${long_files_of_ours[@]}" |
	house files "no file over 600 lines but those with a reason"
done_testing
