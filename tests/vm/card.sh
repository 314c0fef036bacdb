#!/bin/bash
# SPDX-License-Identifier: MIT
# The card as the VM's kernel sees it, without its driver.
. "$(dirname "$0")/../vm.sh"

has() { grep -Fxq "$1" "$work/out" || { echo "# no line \"$1\""; return 1; }; }

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

vm_run --card tiny --card tiny --no-module -- sh -c 'grep -l 0xf117 /sys/bus/pci/devices/*/device | wc -l' </dev/null
ok "two cards are two devices" [ "$(cat "$work/out")" = 2 ] || vm_show
vm_run --card nosuch --no-module -- true </dev/null
ok "an unknown card is an error that names it" grep -q nosuch "$work/err"
ok "with status 2" [ "$vm_status" = 2 ]
vm_run --card tiny --no-module --iommu -- sh -c 'ls /sys/kernel/iommu_groups | head -n 1' </dev/null
ok "it works behind a virtual IOMMU" [ "$(cat "$work/out")" = 0 ] || vm_show
vm_log_is_clean "a card behind an IOMMU"
done_testing
