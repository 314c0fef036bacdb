#!/bin/bash
# SPDX-License-Identifier: MIT
# The tokenizer against SentencePiece itself (Debian's package sentencepiece): 1 MB of mixed text, with
# invalid UTF-8, encoded and decoded, must be the same to the byte.
cd "$(dirname "$0")/../.." || exit 1
bin=${B:-build}/tests/lib/token
model=tests/data/fables-3m/tokenizer.model
echo 1..2
if ! command -v spm_encode >/dev/null; then
	echo "ok 1 # SKIP spm_encode is not installed (apt-get install sentencepiece)"
	echo "ok 2 # SKIP spm_decode is not installed"
	exit 0
fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# A seeded mixture: prose, random bytes, random characters of many scripts, spaces, long repeats.
perl -e '
	srand 3;
	open F, "<", "tests/data/fables-3m/eval.txt" or die; my @prose = <F>; chomp @prose;
	my $n = 0;
	sub from { $_[rand @_] }
	while ($n < 1_000_000) {
		my $kind = int rand 6; my $l = from(@prose);
		$l = join "", map { chr int rand 256 } 1 .. rand 80 if $kind == 1;
		if ($kind == 2) {
			$l = join "", map { chr from(32 + int rand 95, 0xa0 + int rand 0x460,
				0x4e00 + int rand 0x51ff, 0x1f300 + int rand 0x3ff) } 1 .. rand 60;
			utf8::encode($l);
		}
		if ($kind == 3) { $l =~ s/ /  /g; $l = (" " x rand 5) . $l . (" " x rand 4); }
		substr($l, rand length $l, 0) = chr(128 + int rand 128) if $kind == 4;
		$l = from("a", " a", "the ", "\xe2\x96\x81", "\t", "1234", "\xef\xbf\xbd") x rand 200
			if $kind == 5;
		$l =~ tr/\n\r\0/xr0/;
		print "$l\n"; $n += 1 + length $l;
	}' >"$work/text"

# same N FILE FILE TEXT: one claim.
same() {
	if cmp -s "$2" "$3"; then
		echo "ok $1 - $4"
	else
		echo "not ok $1 - $4"
		cmp "$2" "$3" 2>&1 | sed 's/^/# /'
	fi
}
spm_encode --model=$model --output_format=id <"$work/text" >"$work/ids" 2>/dev/null
"$bin" encode $model <"$work/text" >"$work/our_ids"
same 1 "$work/ids" "$work/our_ids" "$(stat -c %s "$work/text") bytes have the ids of spm_encode"
spm_decode --model=$model --input_format=id <"$work/ids" >"$work/out" 2>/dev/null
"$bin" decode $model <"$work/text" >"$work/our_out"
same 2 "$work/out" "$work/our_out" "token by token they are the text of spm_decode"
