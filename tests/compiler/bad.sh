#!/bin/bash
# SPDX-License-Identifier: MIT
# Bad input: each case is right in every respect but one, ends with one line on stderr (cases/NAME.err,
# to the letter) and its exit status, and leaves no file behind. Prints TAP.
. "$(dirname "$0")/../tap.sh"
cc=$(realpath "$b/flightllm-cc") cases=$PWD/tests/compiler/cases model=$PWD/tests/data/fables-3m
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
mkdir "$work/box" && cd "$work/box" || exit 1

# judge NAME STATUS GOT WRONG: stderr is as cases/NAME.err, the status as it must be, WRONG empty.
judge() {
	ok "$1 is refused with one line and status $2, nothing is left" \
		is_so "$3" "$2" "$4" "$(diff "$cases/$1.err" "$work/err")"
	rm -f "$work/out" "$work/err"
}

# is_so GOT WANT WRONG DIFFERENCE: of the status, and what else there is to say.
is_so() {
	[ "$1" = "$2" ] && [ -z "$3$4" ] || { echo "status $1${3:+, $3}${4:+
$4}"; return 1; }
}

# bad NAME STATUS ARGUMENT...: the compiler refuses, as cases/NAME.err says.
bad() {
	local name=$1 want=$2 status before wrong=
	shift 2
	before=$(find . | sort)
	timeout 60 "$cc" "$@" >"$work/out" 2>"$work/err" </dev/null
	status=$?
	[ "$before" = "$(find . | sort)" ] || wrong="a file is left"
	[ ! -s "$work/out" ] || wrong="something on stdout"
	judge "$name" "$want" "$status" "$wrong"
}

# broken NAME: a copy of the model, to be broken.
broken() {
	mkdir "$1" && cp "$model"/{config.json,model.safetensors,tokenizer.model} "$1" && chmod u+w "$1"/*
}

# config NAME PERL: a copy whose config.json was changed by PERL, where $j is the object.
config() {
	broken "$1"
	perl -MJSON::PP -0777 -pe 'my $j = decode_json($_); '"$2"'; $_ = encode_json($j)' \
		-i "$1/config.json"
}

# header FOLDER FILE PERL: changes the header of a safetensors file, where $j is the object.
header() {
	perl -MJSON::PP -0777 -pe '
		my $n = unpack("Q<", $_);
		my ($j, $data) = (decode_json(substr($_, 8, $n)), substr($_, 8 + $n));
		'"$3"'; my $h = encode_json($j); $_ = pack("Q<", length($h)) . $h . $data' -i "$1/$2"
}

# shaped NAME KEY=N...: a model of another shape, whose weights are zeros that take no room.
shaped() {
	mkdir "$1" && cp "$model"/tokenizer.model "$1"
	perl -MJSON::PP -e '
		my ($from, $to) = splice @ARGV, 0, 2;
		my $c = decode_json(do { local (@ARGV, $/) = "$from/config.json"; <> });
		for (@ARGV) { my ($key, $n) = split /=/; $c->{$key} = 0 + $n }
		my ($hidden, $ffn) = @$c{qw(hidden_size intermediate_size)};
		my ($q, $kv) = map { $_ * $c->{head_dim} } @$c{qw(num_attention_heads num_key_value_heads)};
		my ($j, $at) = ({}, 0);
		my $add = sub { my ($name, @shape) = @_; my $n = 2; $n *= $_ for @shape;
			$j->{"$name.weight"} = { dtype => "BF16", shape => \@shape, data_offsets => [$at, $at + $n] };
			$at += $n };
		$add->("model.embed_tokens", $c->{vocab_size}, $hidden);
		for (map { "model.layers.$_" } 0 .. $c->{num_hidden_layers} - 1) {
			my $layer = $_;
			$add->("$layer.self_attn.$$_[0]_proj", $$_[1], $$_[2])
				for ["q", $q, $hidden], ["k", $kv, $hidden], ["v", $kv, $hidden], ["o", $hidden, $q];
			$add->("$layer.mlp.$$_[0]_proj", $$_[1], $$_[2])
				for ["gate", $ffn, $hidden], ["up", $ffn, $hidden], ["down", $hidden, $ffn];
			$add->("$layer.$_", $hidden) for "input_layernorm", "post_attention_layernorm";
		}
		$add->("model.norm", $hidden);
		$add->("lm_head", $c->{vocab_size}, $hidden);
		open my $f, ">", "$to/config.json"; print $f encode_json($c);
		my $h = encode_json($j);
		open $f, ">", "$to/model.safetensors"; print $f pack("Q<", length $h), $h;
		truncate $f, 8 + length($h) + $at or die' "$model" "$@"
}

# --- the command line ---

broken good
mkdir existing-directory
bad no-output 2 good
bad no-model 2 -o out.flm
bad two-models 2 good --synthetic tiny -o out.flm
bad unknown-option 2 good -o out.flm --fast
bad missing-argument 2 good -o out.flm --card
bad unknown-card 2 good -o out.flm --card u55
bad unknown-format 2 good -o out.flm --weights w3
bad unknown-shape 2 --synthetic llama3-405b -o out.flm
bad unknown-block 2 good -o out.flm --hadamard qkv=48
bad unknown-pass 2 good -d schedule
bad context-is-no-number 2 good -o out.flm --context many
bad context-is-negative 2 good -o out.flm --context -1
bad seed-is-negative 2 --synthetic 'tiny: -1' -o out.flm
bad seed-is-too-large 2 --synthetic tiny:99999999999999999999 -o out.flm
bad no-threads 2 good -o out.flm --threads 0

# A leading zero is no octal.
"$cc" --synthetic tiny:010 -o ten.flm --no-progress >/dev/null &&
	"$cc" --synthetic tiny:10 -o 10.flm --no-progress >/dev/null
ok "a seed of 010 is ten" cmp ten.flm 10.flm
rm -f ten.flm 10.flm

# --- the model's directory ---

mkdir empty
bad nowhere 1 nowhere -o out.flm
bad empty 1 empty -o out.flm
bad model-is-a-file 1 good/config.json -o out.flm

# --- config.json ---

config unknown-architecture '$j->{architectures} = ["MambaForCausalLM"]'
config wrong-shape '$j->{intermediate_size} = 576'
config negative-size '$j->{hidden_size} = -192'
config huge-size '$j->{hidden_size} = 1 << 40'
config fractional-size '$j->{hidden_size} = 192.5'
config size-in-quotes '$j->{hidden_size} = "192"'
config heads-do-not-divide '$j->{num_key_value_heads} = 4'
config size-is-no-multiple-of-heads '$j->{num_attention_heads} = 7; $j->{num_key_value_heads} = 7; delete $j->{head_dim}'
config scaled-rope '$j->{rope_scaling} = { type => "spiral", factor => 2 }'
config untied-without-head '1'
header untied-without-head model.safetensors 'my ($a, $b) = @{$j->{"lm_head.weight"}{data_offsets}};
	delete $j->{"lm_head.weight"}; substr($data, $a, $b - $a) = "";
	for (values %$j) { next unless ref $_ && $_->{data_offsets} && $_->{data_offsets}[0] >= $b;
		$_ -= $b - $a for @{$_->{data_offsets}} }'
config quantised-already '$j->{quantization_config} = { bits => 4 }'
config no-begin-token '$j->{bos_token_id} = undef'
config many-end-tokens '$j->{eos_token_id} = [2 .. 10]'
config token-beyond-vocabulary '$j->{eos_token_id} = 2048'
broken config-cut-off
truncate -s 100 config-cut-off/config.json
broken config-is-a-pipe
rm config-is-a-pipe/config.json && mkfifo config-is-a-pipe/config.json
for name in unknown-architecture wrong-shape negative-size huge-size fractional-size size-in-quotes \
	heads-do-not-divide size-is-no-multiple-of-heads scaled-rope untied-without-head quantised-already \
	no-begin-token many-end-tokens token-beyond-vocabulary config-cut-off config-is-a-pipe; do
	bad "$name" 1 "$name" -o out.flm
done

# What config.json says of the type of its weights does not count; that of each tensor does.
config unknown-torch-dtype '$j->{torch_dtype} = "float7"'
config tied-with-head '$j->{tie_word_embeddings} = JSON::PP::true'
for name in unknown-torch-dtype tied-with-head; do
	"$cc" "$name" -o ok.flm >"$work/out" 2>"$work/err" || echo "status $?" >>"$work/err"
	ok "$name compiles without a word" diff /dev/null "$work/err"
	rm -f ok.flm "$work/out" "$work/err"
done

# --- the weights ---

broken missing-tensor
LC_ALL=C sed -i 's/model.norm.weight/model.nurm.weight/' missing-tensor/model.safetensors
# Names as a model without its head saves them, and as one that is part of a larger one.
broken names-without-model
header names-without-model model.safetensors '$j = { map { my $n = $_; $n =~ s/^model\.//; ($n, $j->{$_}) } keys %$j }'
broken names-of-a-part
header names-of-a-part model.safetensors '$j = { map { ((/^__/ ? $_ : "language_model.$_"), $j->{$_}) } keys %$j }'
broken nan-weight
printf '\xc0\x7f' | dd of=nan-weight/model.safetensors bs=1 seek=200000 conv=notrunc status=none
# Finite, but not when they are rotated: infinities that cancel each other, and zeros.
broken weight-too-large
printf '\x62\x7f\x62\x7f\x62\xff\x62\xff\x62\x7f\x62\x7f\x62\x7f\x62\x7f' |
	dd of=weight-too-large/model.safetensors bs=1 seek=199640 conv=notrunc status=none
# All of lm_head becomes 1e-9.
broken weights-too-small
perl -e 'print "\x89\x30" x (2048 * 192)' |
	dd of=weights-too-small/model.safetensors bs=4096 oflag=seek_bytes seek=6104 conv=notrunc status=none
broken truncated
truncate -s 1000000 truncated/model.safetensors
broken header-beyond-file
printf '\xff\xff\xff\xff\xff\xff\xff\x7f' |
	dd of=header-beyond-file/model.safetensors bs=1 conv=notrunc status=none
broken empty-weights
: >empty-weights/model.safetensors
broken overlapping-tensors
header overlapping-tensors model.safetensors '$j->{"model.norm.weight"}{data_offsets} = [0, 384]'
broken unknown-dtype
header unknown-dtype model.safetensors '$j->{"model.norm.weight"}{dtype} = "F7"'
broken whole-numbers
header whole-numbers model.safetensors '$j->{"model.norm.weight"}{dtype} = "I16"'
broken extra-tensor
header extra-tensor model.safetensors 'my $e = length $data; $data .= "\0\0";
	$j->{"model.layers.0.self_attn.q_norm.weight"} = { dtype => "F16", shape => [1], data_offsets => [$e, $e + 2] }'

# sharded NAME MAP: the weights in two files that are the same, and an index.
sharded() {
	broken "$1"
	mv "$1/model.safetensors" "$1/a.safetensors"
	cp "$1/a.safetensors" "$1/b.safetensors"
	echo "{\"weight_map\": {$2}}" >"$1/model.safetensors.index.json"
}
sharded duplicate-tensor '"model.norm.weight": "a.safetensors", "lm_head.weight": "b.safetensors"'
sharded shard-outside '"model.norm.weight": "../../etc/passwd"'
sharded shard-missing '"model.norm.weight": "c.safetensors"'
sharded shard-without-tensor '"model.nurm.weight": "a.safetensors"'
sharded index-is-a-list ''
echo '{"weight_map": ["a.safetensors"]}' >index-is-a-list/model.safetensors.index.json
for name in missing-tensor names-without-model names-of-a-part nan-weight weight-too-large \
	weights-too-small truncated header-beyond-file empty-weights overlapping-tensors \
	unknown-dtype whole-numbers extra-tensor duplicate-tensor shard-outside shard-missing \
	shard-without-tensor index-is-a-list; do
	bad "$name" 1 "$name" -o out.flm
done

# --- the tokenizer, and the form of a chat ---

broken no-tokenizer
rm no-tokenizer/tokenizer.model
broken tokenizer-truncated
truncate -s 5000 tokenizer-truncated/tokenizer.model
broken tokenizer-larger-than-vocabulary
printf '\x0a\x05\x0a\x03abc' >>tokenizer-larger-than-vocabulary/tokenizer.model
# Settings at the end of a file are valid, and the last of a kind counts.
broken tokenizer-is-unigram
printf '\x12\x02\x18\x01' >>tokenizer-is-unigram/tokenizer.model
broken tokenizer-normalizes
printf '\x1a\x03\x12\x01x' >>tokenizer-normalizes/tokenizer.model
broken tokenizer-is-a-pipe
rm tokenizer-is-a-pipe/tokenizer.model && mkfifo tokenizer-is-a-pipe/tokenizer.model
broken chat-settings-cut-off
echo '{"chat_template": "' >chat-settings-cut-off/tokenizer_config.json
for name in no-tokenizer tokenizer-truncated tokenizer-larger-than-vocabulary tokenizer-is-unigram \
	tokenizer-normalizes tokenizer-is-a-pipe chat-settings-cut-off; do
	bad "$name" 1 "$name" -o out.flm
done

# --- what the card holds ---

bad context-beyond-model 1 good -o out.flm --context 512
bad context-beyond-card 1 --synthetic llama2-7b -o out.flm --context 4096
bad strip-beyond-card 1 --synthetic llama2-7b --card tiny -o out.flm
config context-beyond-chip '$j->{max_position_embeddings} = 1048576'
bad context-beyond-chip 1 context-beyond-chip -o out.flm --context 1048576
"$cc" context-beyond-chip -d graph 2>"$work/err" >/dev/null
ok "a context that nobody asked for leaves room for 64 tokens a pass" \
	[ "$(cat "$work/err")" = \
	"flightllm-cc: a context of 120621, as much as card u280 holds with 64 tokens a pass; the model's is 1048576" ] || tap_comment <"$work/err"
bad strip-fits-at-w4 1 --synthetic llama-110m --card tiny -o out.flm
# 64 layers of keys and values: the chip has room for more positions than HBM.
shaped context-beyond-memory hidden_size=32 intermediate_size=32 num_hidden_layers=64 num_attention_heads=8 \
	num_key_value_heads=8 head_dim=16 max_position_embeddings=65536
bad context-beyond-memory 1 context-beyond-memory --card tiny -o out.flm --context 65536
for layers in 14 24; do
	shaped weights-of-$layers-layers hidden_size=1024 intermediate_size=1024 num_hidden_layers=$layers \
		num_attention_heads=16 num_key_value_heads=16 head_dim=64
	bad weights-of-$layers-layers 1 weights-of-$layers-layers --card tiny -o out.flm
done
bad weights-at-w4 1 weights-of-24-layers --card tiny -o out.flm --weights w4
# What the errors name does fit.
"$cc" context-beyond-memory --card tiny -d graph --context 3072 >"$work/out" 2>&1 &&
	! "$cc" context-beyond-memory --card tiny -d graph --context 3073 >"$work/out" 2>&1 &&
	"$cc" weights-of-14-layers --card tiny -d graph --weights w4 >"$work/out" 2>&1
ok "the remedies help" [ $? -eq 0 ]
bad rotation-does-not-divide 1 --synthetic tiny -o out.flm --hadamard down=64
# One block of 2 MiB too much, which is the program's.
shaped memory-beyond-card vocab_size=30500 hidden_size=1024 intermediate_size=1024 num_hidden_layers=1 \
	num_attention_heads=16 num_key_value_heads=16 head_dim=64
bad memory-beyond-card 1 memory-beyond-card --card tiny -o out.flm

# --- the output ---

bad output-in-no-directory 1 good -o nodir/out.flm
bad output-is-a-directory 1 good -o existing-directory
bad output-has-no-name 1 good -o ''
bad output-ends-in-a-slash 1 good -o new/
bad output-name-too-long 1 good -o "$(printf 'x%.0s' {1..300})"
sum=$(sha256sum good/*)
bad output-is-the-model 1 good -o good/model.safetensors
bad output-is-the-config 1 good -o ./good/config.json
ok "the model is as it was" [ "$sum" = "$(sha256sum good/*)" ]

# Larger than files may be here.
(
	ulimit -f 100
	exec "$cc" good -o out.flm
) >"$work/out" 2>"$work/err"
judge no-room 1 $? "$(ls out.flm* 2>/dev/null)"
"$cc" good -d graph >/dev/full 2>"$work/err"
judge stdout-is-full 1 $? ""
"$cc" good -d graph >&- 2>"$work/err"
judge stdout-is-closed 1 $? ""

# Root may read and write anywhere.
mkdir read-only && chmod 555 read-only && chmod 755 "$work" "$work/box"
broken unreadable && chmod 0 unreadable/model.safetensors
echo old >others.flm
as=()
[ "$(id -u)" -ne 0 ] || as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
if "${as[@]}" "$cc" --version >/dev/null 2>&1; then
	"${as[@]}" "$cc" --synthetic tiny -o read-only/out.flm >"$work/out" 2>"$work/err"
	judge no-permission 4 $? ""
	"${as[@]}" "$cc" unreadable -o read-only/out.flm >"$work/out" 2>"$work/err"
	judge unreadable 4 $? ""
	[ ${#as[@]} -ne 0 ] || chmod a-w others.flm
	"${as[@]}" "$cc" good -o others.flm >"$work/out" 2>"$work/err"
	judge others-file 4 $? "$(grep -v '^old$' others.flm)"
else
	for name in no-permission unreadable others-file; do
		skip "$name" "no other user can run the compiler here"
	done
fi

# --- killed in the middle ---

# is_writing PID: the output is open, under whatever name or none.
is_writing() {
	local i
	for ((i = 0; i < 1000; i++)); do
		find "/proc/$1/fd" -lname "$work/*" 2>/dev/null | grep -q . && return 0
		kill -0 "$1" 2>/dev/null || return 1
	done
	return 1
}

echo FLM-FILE of old >kept.flm
for signal in TERM KILL; do
	"$cc" --synthetic llama-1b -o kept.flm --threads 1 2>/dev/null >&2 &
	pid=$!
	is_writing $pid
	wrote=$?
	kill -$signal $pid
	wait $pid 2>/dev/null
	status=$?
	ok "SIG$signal in the middle leaves the old file and no other" \
		[ "$wrote.$status.$(cat kept.flm*)" = "0.$((128 + $(kill -l $signal))).FLM-FILE of old" ] ||
		echo "# was writing: $wrote, status $status, $(ls)"
done

# What the caller ignores, as nohup does SIGHUP, ends nothing.
(
	trap '' HUP
	exec "$cc" --synthetic llama-110m -o nohup.flm --threads 1 >/dev/null 2>&1
) &
pid=$!
is_writing $pid
wrote=$?
kill -HUP $pid
wait $pid
status=$?
ok "a SIGHUP that the caller ignores ends nothing" \
	[ "$wrote.$status.$(ls nohup.flm)" = 0.0.nohup.flm ] || echo "# was writing: $wrote, status $status"
done_testing
