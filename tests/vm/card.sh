#!/bin/bash
# SPDX-License-Identifier: MIT
# The card as the VM's kernel sees it, without its driver.
. "$(dirname "$0")/../vm.sh"

has() { grep -Fxq -- "$1" "$work/out" || { echo "# no line \"$1\""; return 1; }; }

cat >"$work/look" <<'EOF'
for d in /sys/bus/pci/devices/*; do
	[ "$(cat $d/vendor)$(cat $d/device)" = 0x12340xf117 ] && card=$d
done
for f in class revision subsystem_vendor subsystem_device current_link_speed current_link_width; do
	echo "$f $(cat $card/$f)"
done
echo "bar0 $(sed -n '1s/.* //p' $card/resource)"
echo "bar2 $(sed -n '3s/.* //p' $card/resource)"
for method in flr bus; do
	echo $method >$card/reset_method && echo 1 >$card/reset && echo "reset by $method"
done
echo "vendor after $(od -An -tx2 -N2 $card/config)"
echo "aer $(test -e $card/aer_dev_fatal && echo yes)"
EOF

vm_run --card tiny --no-module --emu-args "--bar2 64M" -- sh "$work/look" </dev/null
ok "it boots with a card" [ "$vm_status" = 0 ] || vm_show
ok "class 1200" has "class 0x120000"
ok "revision 1" has "revision 0x01"
ok "subsystem: tiny" has "subsystem_device 0x0004"
ok "link Gen3" has "current_link_speed 8.0 GT/s PCIe"
ok "x16" has "current_link_width 16"
ok "BAR0 is 32-bit memory" has "bar0 0x0000000000040200"
ok "BAR2 is 64-bit prefetchable memory" has "bar2 0x000000000014220c"
ok "FLR works" has "reset by flr"
ok "bus reset works" has "reset by bus"
ok "and the card is there after both" has "vendor after  1234"
ok "AER is found" has "aer yes"
vm_log_is_clean "two resets of a card"

# What the tools tell of the card by libpci, against what sysfs and the card's own bytes say.
cat >"$work/pci" <<EOF
cd "$PWD"
list() { "${B:-build}/flightllm" list "\$@"; echo "list is \$?"; }
EOF
cat >>"$work/pci" <<'EOF'
card=$(dirname "$(grep -l 0xf117 /sys/bus/pci/devices/*/device | head -n 1)")
gts() { sed -E 's/(\.0)? GT.*/ GT\/s/' "$card/$1_link_speed"; }
link="link $(gts current) x$(cat "$card/current_link_width") of $(gts max) x$(cat "$card/max_link_width")"
i=0
bars=$(head -n 6 "$card/resource" | while read -r from to _; do
	kib=$(((to - from + 1) / 1024))
	[ $((to)) = 0 ] || [ $kib -ge 1024 ] || printf ', BAR%d %d KiB' $i $kib
	[ $((to)) = 0 ] || [ $kib -lt 1024 ] || printf ', BAR%d %d MiB' $i $((kib / 1024))
	i=$((i + 1))
done)
serial=$(od -An -tx8 -j $((0x154)) -N 8 "$card/config" | tr -d ' ')
list >/tmp/text 2>/tmp/err
list --json >/tmp/json 2>&1
cat /tmp/text /tmp/err
grep -Fx "   Device 1234:f117, serial $serial" /tmp/text >&2 && echo "same name and serial number"
grep -Fx "   $link$bars" /tmp/text >&2 && echo "same link and BARs"
tr -d ' \n' </tmp/json | grep -o '"driver".*]' && echo
EOF
cat >"$work/bare" <<EOF
. "$work/pci"
setpriv --reuid 65534 --clear-groups "${B:-build}/flightllm" list 2>&1
"${B:-build}/flightllm" info 2>&1; echo "info is \$?"
modprobe pci-stub ids=1234:f117 && list 2>&1
EOF
cat >"$work/owned" <<EOF
. "$work/pci"
"${B:-build}/flightllm" info | tail -n +3 | head -n 2 | cmp - <(sed -n 2,3p /tmp/text) && echo "info says the same"
mount -t tmpfs none /sys/bus/pci
list >/tmp/blind 2>&1
"${B:-build}/flightllm" info >>/tmp/blind 2>&1; echo "info is \$?" >>/tmp/blind
umount /sys/bus/pci
sed 's/^/blind: /' /tmp/blind
echo 0000:01:00.0 >/sys/bus/pci/drivers/flightllm/unbind
list 2>&1
"${B:-build}/flightllm" info -d 0000:01:00.0 2>&1; echo "info is \$?"
EOF
json='"driver":"","serial":"f117000000000001","link_width":16,"link_width_max":16,"link_mts":8000,"link_mts_max":8000'
json+=',"bar_bytes":[16384,0,67108864,0,32768,0]}]'
without="card without driver: 0000:01:00.0; load it ('sudo modprobe flightllm'"

vm_run --card tiny --no-module --emu-args "--bar2 64M" -- bash "$work/bare" </dev/null
ok "without a driver the card is listed" has "-  without driver     0000:01:00.0" || vm_show
ok "named, with its serial number" has "same name and serial number" || vm_show
ok "with link and BARs as sysfs has them" has "same link and BARs" || vm_show
ok "in JSON too" has "$json" || vm_show
ok "who is not root sees the BARs" \
	has "   link unknown, root may see it, BAR0 16 KiB, BAR2 64 MiB, BAR4 32 KiB" || vm_show
ok "the error says that there is a card and how to load its driver" \
	[ "$(grep -cF ": $without" "$work/out")" = 3 ] || vm_show
ok "and that is status 3" [ "$(grep -xcE '(list|info) is 3' "$work/out")" = 3 ] || vm_show
ok "a card that another driver owns" has "-  without driver     0000:01:00.0, owned by pci-stub" || vm_show
ok "is to be released" grep -q \
	"card without driver: pci-stub owns 0000:01:00.0; .* /sys/bus/pci/drivers/pci-stub/unbind'" "$work/out"
vm_log_is_clean "a card without driver is listed"
vm_run --card tiny --card tiny -- bash "$work/owned" </dev/null
ok "with its driver it is listed" has "0  /dev/accel/accel0  0000:01:00.0" || vm_show
ok "with the same of PCI" [ "$(grep -xcE 'same (name and serial number|link and BARs)' "$work/out")" = 2 ] ||
	vm_show
ok "info says the same" has "info says the same" || vm_show
ok "without PCI's files list still shows the driver's cards" \
	[ "$(grep -cE '^blind: [01]  /dev/accel/accel[01]  0000:0[12]:00.0$' "$work/out")" = 2 ] || vm_show
ok "and info its card" grep -q "^blind: /dev/accel/accel0 0000:01:00.0: card tiny" "$work/out" || vm_show
ok "both say what they could not read, with status 1" \
	[ "$(grep -cE "^blind: (flightllm (list|info): PCI: |(list|info) is 1$)" "$work/out")" = 4 ] || vm_show
ok "of two cards one may be without driver" has "-  without driver     0000:01:00.0" || vm_show
ok "list is content with the other" [ "$(grep -xc 'list is 0' "$work/out")" = 2 ] || vm_show
ok "who names the first is told of its driver" grep -qF "info: $without" "$work/out" || vm_show
vm_log_is_clean "cards are listed"

vm_run --card tiny --card tiny --no-module -- sh -c 'grep -l 0xf117 /sys/bus/pci/devices/*/device | wc -l' </dev/null
ok "two cards are two devices" [ "$(cat "$work/out")" = 2 ] || vm_show
vm_run --card nosuch --no-module -- true </dev/null
ok "an unknown card is an error that names it" grep -q nosuch "$work/err"
ok "with status 2" [ "$vm_status" = 2 ]
vm_run --card tiny --no-module --iommu -- sh -c 'ls /sys/kernel/iommu_groups | head -n 1' </dev/null
ok "it works behind a virtual IOMMU" [ "$(cat "$work/out")" = 0 ] || vm_show
vm_log_is_clean "a card behind an IOMMU"
done_testing
