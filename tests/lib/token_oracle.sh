#!/bin/bash
# SPDX-License-Identifier: MIT
# The tokenizer against SentencePiece itself (Debian's package sentencepiece): 1 MB of mixed text with
# invalid UTF-8 is encoded, and tokens at random are decoded; both must be the same to the byte. With
# the model of fables-3m, and with small models trained here whose settings differ from it.
. "$(dirname "$0")/../tap.sh"
bin=$b/tests/lib/token
fables=tests/data/fables-3m
models="fables plain user user_removes suffix bare bare_removes unescaped unused"
if ! command -v spm_encode >/dev/null || ! command -v spm_train >/dev/null; then
	for m in $models; do
		for what in encodes decodes; do
			skip "$m $what" "no spm_encode (apt-get install sentencepiece)"
		done
	done
	done_testing
fi

# train NAME OPTION...
train() {
	local name=$1
	shift
	spm_train --input="$work/prose" --model_prefix="$work/$name" --model_type=bpe --vocab_size=600 \
		--hard_vocab_limit=false --normalization_rule_name=identity "$@" >"$work/log" 2>&1 ||
		tail -n 3 "$work/log" | sed 's/^/# /'
}
cp $fables/tokenizer.model "$work/fables.model"
grep . $fables/eval.txt >"$work/prose"
users=$'--user_defined_symbols=<|im|>,the king,  ,aaa,the,\xe2\x96\x81\xe2\x96\x81'
train plain --byte_fallback=false --character_coverage=0.98
train user --byte_fallback=true "$users" --remove_extra_whitespaces=false
train user_removes --byte_fallback=false "$users" --character_coverage=0.98
train suffix --treat_whitespace_as_suffix=true
train bare --add_dummy_prefix=false --remove_extra_whitespaces=false --byte_fallback=true
train bare_removes --add_dummy_prefix=false '--unk_surface=??'

# The settings that spm_train cannot give: spaces as they are, and every third piece unused.
perl -e '
	my ($dir) = @ARGV;
	sub number {
		my ($v, $s) = (shift, "");
		for (; $v > 127; $v >>= 7) { $s .= chr(128 | $v & 127) }
		$s . chr $v;
	}
	sub rewrite {
		my ($from, $to, $change) = @_;
		open my $f, "<:raw", "$dir/$from.model" or die; local $/; my $in = <$f>; my $out = "";
		while (length $in) {
			my $tag = ord substr $in, 0, 1, "";
			my ($size, $shift, $b) = (0, 0);
			do {
				$b = ord substr $in, 0, 1, "";
				$size |= ($b & 127) << $shift;
				$shift += 7;
			} while $b > 127;
			my $part = $change->($tag >> 3, substr $in, 0, $size, "");
			$out .= chr($tag) . number(length $part) . $part;
		}
		open $f, ">:raw", "$dir/$to.model" or die; print $f $out; close $f or die;
	}
	my $k = 0;
	rewrite("plain", "unused", sub {
		my ($field, $part) = @_;
		$part .= "\x18\x05" if $field == 1 && $part !~ /\x18[\x01-\x06]$/ && ++$k % 3 == 0;
		$part;
	});
	rewrite("bare", "unescaped", sub {
		my ($field, $part) = @_;
		$part .= "\x28\x00" if $field == 3;
		$part;
	});' "$work" || exit 1

# A seeded mixture: prose, random bytes, random characters of many scripts, spaces, long repeats.
perl -e '
	srand 3;
	open F, "<", "tests/data/fables-3m/eval.txt" or die; my @prose = <F>; chomp @prose;
	my $n = 0;
	sub from { $_[rand @_] }
	while ($n < 1_000_000) {
		my $kind = int rand 7; my $l = from(@prose);
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
		$l = join "", map { from("the", " ", "  ", "the king", "aaa", "<|im|>", "\xe2\x96\x81", "<s>",
			"<0x41>", "<unk>", "\0", "\xe2\x96", "b") } 1 .. rand 60 if $kind == 6;
		$l =~ tr/\n//d;
		print "$l\n"; $n += 1 + length $l;
	}' >"$work/text"
# Tokens at random, below 256 mostly: there the byte pieces are.
perl -e '
	srand 4;
	for (1 .. 4000) { print join(" ", map { int rand(rand() < 0.7 ? 260 : 590) } 0 .. rand 40), "\n" }
	' >"$work/tokens"

# same FILE FILE: not for want of anything in them.
same() {
	[ -s "$1" ] && cmp "$1" "$2"
}
for m in $models; do
	model=$work/$m.model
	spm_encode --model="$model" --output_format=id <"$work/text" >"$work/ids" 2>/dev/null
	"$bin" encode "$model" <"$work/text" >"$work/our_ids"
	ok "$m: $(stat -c %s "$work/text") bytes have the ids of spm_encode" same "$work/ids" "$work/our_ids"
	# What was encoded, where there is a token on the line, and what was not.
	grep . "$work/ids" | cat - "$work/tokens" >"$work/all"
	spm_decode --model="$model" --input_format=id <"$work/all" >"$work/out" 2>/dev/null
	"$bin" decode "$model" <"$work/all" >"$work/our_out"
	ok "$m: $(wc -l <"$work/all") lines of ids have the text of spm_decode" same "$work/out" "$work/our_out"
done
done_testing
