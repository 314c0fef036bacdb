#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Puts in place what building and testing FlightLLM needs on Debian 12 or 13: packages of the
# distribution, QEMU with vfio-user, a guest kernel with its headers, kernel selftest headers.
#
# The one idea: only packages touch the host. QEMU and the guest kernel are unpacked, never
# installed, into a cache; apt does it with lists and state of its own, so no root is needed and the
# host's package database stays as it is. Each part has a marker file, and a second run only looks
# at markers.
set -Eeuo pipefail

export LC_ALL=C
# A user who is not root has no depmod and modprobe in the path.
export PATH=$PATH:/usr/sbin:/sbin
me=setup.sh
cache=${FLIGHTLLM_CACHE:-${XDG_CACHE_HOME:-~/.cache}/flightllm}

# Raised when the layout of the cache changes; an older cache is then built anew.
layout=1

# By name the same in Debian 12 and 13.
packages=(gcc g++ libc6-dev make pkg-config clang libclang-rt-dev perl gawk file
	libdrm-dev libpci-dev libjansson-dev
	cpio kmod xz-utils zstd util-linux procps time man-db
	libelf-dev pahole sparse sentencepiece)

# The guest's modules: what boots it, then what a driver or a test may ask for by name.
boot_modules=(9pnet_virtio 9p overlay)
more_modules=(drm gpu-sched ttm drm_exec drm_gpuvm drm_ttm_helper drm_shmem_helper
	drm_kms_helper vgem aer_inject)

usage()
{
	cat <<EOF
usage: tools/setup.sh [--packages] [--vm] [--selftests] [--refresh]
       tools/setup.sh --module | --print-headers | --build-root SUITE | --help

Installs missing Debian packages (root or sudo), and fetches QEMU and the guest kernel into
$cache.
Without options everything that is missing is done; a second run does nothing.

  --packages       only the packages
  --vm             only QEMU and the guest kernel
  --selftests      only the kernel's selftest headers and checkpatch
  --module         build the kernel module for the VM's kernel: build/flightllm.ko, and stop
  --refresh        fetch QEMU, guest kernel and selftest headers anew
  --build-root SUITE  fetch compiler and kernel headers of another suite of Debian (such as
                   trixie-backports) into a folder that chroot can enter, print it, and stop
  --print-headers  print the folder to build the module against, and stop
  --help           this text

FLIGHTLLM_CACHE names another cache folder.
FLIGHTLLM_HEADERS names other kernel headers to build the module against.
EOF
}

say()
{
	echo "$me: $*" >&2
}

die()
{
	say "$*"
	exit 1
}

trap 'say "stopped by an error in line $LINENO"' ERR

missing_packages()
{
	# dpkg-query fails when it does not know one of the names; what it prints is what counts.
	{ dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || :; } |
		awk -v want="${packages[*]}" '
			$1 == "installed" { have[$2] = 1 }
			END {
				n = split(want, name, " ")
				for (i = 1; i <= n; i++)
					if (!(name[i] in have))
						print name[i]
			}'
}

install_packages()
{
	local missing sudo=()

	mapfile -t missing < <(missing_packages)
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ]; then
		[ -n "$(command -v sudo)" ] ||
			die "packages are missing; install them as root: ${missing[*]}"
		sudo=(sudo)
	fi
	say "installing packages: ${missing[*]}"
	"${sudo[@]}" apt-get -q update >"$cache/log" 2>&1 ||
		die "apt-get update failed; see $cache/log"
	"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y install \
		--no-install-recommends "${missing[@]}" >"$cache/log" 2>&1 ||
		die "apt-get install failed; see $cache/log"
}

# The host's own mirror serves the other suites too: prints the address of the archive.
mirror_of()
{
	# shellcheck disable=SC2016 # the names are apt's
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		awk -v re="$1" '$2 ~ "^(" re ")/?$" && $3 == "main" { print $1; exit }'
}

# private_apt FOLDER COMMAND...: apt with sources, lists and state in FOLDER.
private_apt()
{
	local at=$1 command=$2

	shift 2
	"$command" -q -o Dir::Etc::sourcelist="$at/sources.list" \
		-o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences=/dev/null \
		-o Dir::Etc::preferencesparts=/dev/null -o Dir::State="$at/state" \
		-o Dir::State::status="$at/status" -o Dir::Cache="$at/cache" \
		-o APT::Sandbox::User=root -o APT::Architecture=amd64 -o APT::Architectures=amd64 \
		-o Acquire::Languages=none -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=0 \
		"$@"
}

# new_apt FOLDER "MIRROR SUITE"...
new_apt()
{
	local at=$1 line

	shift
	mkdir -p "$at/state/lists/partial" "$at/cache/archives/partial"
	: >"$at/status"
	for line; do
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $line main"
	done >"$at/sources.list"
	private_apt "$at" apt-get update >"$cache/log" 2>&1 ||
		die "cannot read package lists ($*); see $cache/log"
	if grep -q '^[WE]:' "$cache/log"; then
		die "cannot read package lists ($*): $(grep -m1 '^[WE]:' "$cache/log")"
	fi
}

unpack()
{
	local into=$1 deb

	shift
	mkdir -p "$into"
	for deb; do
		dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$into" --no-same-owner
	done
}

# Moves a finished folder into its place, so that an interrupted run leaves no half of one.
publish()
{
	echo "$layout" >"$1/.complete"
	rm -rf "$2"
	mv "$1" "$2"
}

is_complete()
{
	[ "$(cat "$1/.complete" 2>/dev/null)" = "$layout" ]
}

debian_version()
{
	# shellcheck disable=SC1091
	. /etc/os-release
	[ "${ID:-}" = debian ] || die "${PRETTY_NAME:-this system}: not Debian; use Debian 12 or 13"
	case ${VERSION_ID:-} in
	12 | 13) ;;
	*) die "Debian ${VERSION_ID:-unknown}: not supported; use Debian 12 or 13" ;;
	esac
	[ "$(dpkg --print-architecture)" = amd64 ] || die "$(dpkg --print-architecture): not supported; use an amd64 host"
	codename=$VERSION_CODENAME
	archive=$(mirror_of "$codename|stable|oldstable")
	[ -n "$archive" ] || die "no archive for $codename in apt's configuration; add one to /etc/apt/sources.list"
	archive=${archive%/}
	security=$(mirror_of "$codename-security|stable-security|oldstable-security")
	security=${security%/}
	[ -n "$security" ] || security=${archive%/debian}/debian-security
}

fetch_qemu()
{
	local at=$cache/new.qemu

	is_complete "$cache/qemu" && return 0
	say "fetching QEMU from trixie-backports"
	rm -rf "$at"
	mkdir -p "$at"
	new_apt "$at/apt" "$archive trixie" "$archive trixie-backports"
	private_apt "$at/apt" apt-get -y --download-only --no-install-recommends \
		-t trixie-backports install qemu-system-x86 seabios >"$cache/log" 2>&1 ||
		die "cannot download QEMU; see $cache/log"
	unpack "$at/root" "$at"/apt/cache/archives/*.deb
	rm -rf "$at/apt"
	# Nothing here needs manuals, firmware of other machines or locales.
	rm -rf "$at"/root/usr/share/{doc,man,locale,info,lintian} "$at"/root/usr/share/qemu/edk2-*
	publish "$at" "$cache/qemu"
}

# The kernel is kept uncompressed: QEMU enters an ELF image by PVH, which saves the firmware's and
# the decompressor's time, under TCG about a second.
unpack_image()
{
	local image=$1 out=$2 setup offset bytes magic

	u32()
	{
		od -An -tu4 -j"$(($1))" -N4 "$image" | tr -d ' '
	}
	setup=$(od -An -tu1 -j"$((0x1f1))" -N1 "$image" | tr -d ' ')
	offset=$(((setup + 1) * 512 + $(u32 0x248)))
	bytes=$(u32 0x24c)
	dd if="$image" of="$out.payload" bs=1M iflag=skip_bytes,count_bytes skip="$offset" \
		count="$bytes" status=none
	magic=$(od -An -tx1 -N4 "$out.payload" | tr -d ' ')
	# The last four bytes are the unpacked size, for all formats but gzip.
	case $magic in
	28b52ffd) head -c -4 "$out.payload" | zstd -dcq >"$out" ;;
	fd377a58) head -c -4 "$out.payload" | xz -dc --single-stream >"$out" ;;
	1f8b*) gzip -dc <"$out.payload" >"$out" ;;
	*) die "$image: unknown kernel compression $magic; get the kernel again with --refresh" ;;
	esac
	rm "$out.payload"
}

# Copies a module and what it needs, uncompressed, into one flat folder; prints the names in order.
copy_modules()
{
	local root=$1 version=$2 into=$3 name path file

	shift 3
	mkdir -p "$into"
	for name; do
		modprobe -d "$root" -S "$version" --show-depends "$name" | awk '/^insmod/ { print $2 }'
	done | awk '!seen[$0]++' | while read -r path; do
		file=$(basename "$path")
		file=${file%%.ko*}.ko
		case $path in
		*.xz) xz -dc "$path" >"$into/$file" ;;
		*.zst) zstd -dcq "$path" >"$into/$file" ;;
		*.gz) gzip -dc "$path" >"$into/$file" ;;
		*) cp "$path" "$into/$file" ;;
		esac
		echo "$file"
	done
}

# Debian's header packages name each other by absolute paths; here they live elsewhere.
relocate_headers()
{
	local root=$1 final=$2 version=$3

	sed -i "s|/usr/src/|$final/root/usr/src/|" "$root/usr/src/linux-headers-$version/Makefile"
	ln -sfn "$final/root/usr/src/linux-headers-$version" "$cache/headers"
}

fetch_kernel()
{
	local at=$cache/new.kernel root version names name pattern

	is_complete "$cache/kernel" && return 0
	say "fetching the guest kernel and its headers ($codename)"
	rm -rf "$at"
	mkdir -p "$at"
	root=$at/root
	new_apt "$at/apt" "$archive $codename" "$security $codename-security"
	pattern='^linux-image-6\.12\.[0-9]+\+deb[0-9]+(\.[0-9]+)?-amd64$'
	version=$(private_apt "$at/apt" apt-cache pkgnames linux-image-6.12 |
		grep -E "$pattern" | sort -V | tail -n 1)
	version=${version#linux-image-}
	[ -n "$version" ] || die "no linux-image-6.12.*-amd64 in $codename or $codename-security; use another mirror"
	names=("linux-image-$version" "linux-headers-$version")
	for name in "linux-headers-${version%-amd64}-common" "linux-kbuild-${version%-amd64}" \
		"linux-binary-$version" "linux-modules-$version" "linux-base-$version"; do
		# Which of these exist differs between releases of Debian.
		if private_apt "$at/apt" apt-cache pkgnames "$name" | grep -Fxq "$name"; then
			names+=("$name")
		fi
	done
	mkdir "$at/debs"
	(cd "$at/debs" && private_apt "$at/apt" apt-get download "${names[@]}") \
		>"$cache/log" 2>&1 || die "cannot download ${names[*]}; see $cache/log"
	unpack "$root" "$at"/debs/*.deb
	rm -rf "$at/apt" "$at/debs" "${root:?}/usr/share"
	[ -e "$root/lib/modules" ] || { mkdir -p "$root/lib" && ln -s ../usr/lib/modules "$root/lib/modules"; }
	depmod -b "$root" "$version"
	unpack_image "$root/boot/vmlinuz-$version" "$at/vmlinux"
	copy_modules "$root" "$version" "$at/initrd/modules" "${boot_modules[@]}" \
		>"$at/initrd.order"
	mv "$at/initrd.order" "$at/initrd/modules/order"
	copy_modules "$root" "$version" "$at/modules" "${more_modules[@]}" >/dev/null
	(cd "$at/initrd" && find . | cpio -o -H newc --quiet) >"$at/modules.cpio"
	rm -r "$at/initrd"
	# The rest of the modules stays compressed: modprobe in the guest finds it there.
	echo "$version" >"$at/version"
	relocate_headers "$root" "$cache/kernel" "$version"
	publish "$at" "$cache/kernel"
}

# The kernel's test harness and style checker come from its source package, never from a copy here.
fetch_selftests()
{
	local at=$cache/new.selftests

	is_complete "$cache/selftests" && return 0
	say "fetching the kernel's selftest headers and checkpatch ($codename)"
	rm -rf "$at"
	mkdir -p "$at"
	new_apt "$at/apt" "$archive $codename" "$security $codename-security"
	(cd "$at" && private_apt "$at/apt" apt-get download linux-source-6.12) \
		>"$cache/log" 2>&1 || die "cannot download linux-source-6.12; see $cache/log"
	dpkg-deb --fsys-tarfile "$at"/linux-source-6.12*.deb |
		tar -xO ./usr/src/linux-source-6.12.tar.xz | xz -dc -T0 |
		tar -x -C "$at" --strip-components=1 --no-same-owner --wildcards \
			'*/tools/testing/selftests/kselftest*.h' '*/scripts/checkpatch.pl' \
			'*/scripts/spelling.txt' '*/scripts/const_structs.checkpatch'
	rm -rf "$at/apt" "$at"/*.deb
	publish "$at" "$cache/selftests"
}

# Headers of another release bring programs that need its libc, and want its compiler: a root with
# both, entered by chroot, leaves the host alone.
fetch_build_root()
{
	local suite=$1 release at=$cache/new.root final lines

	[[ $suite =~ ^(bookworm|trixie)(-security|-backports)?$ ]] ||
		die "--build-root $suite: bookworm or trixie, plain, -security or -backports"
	final=$cache/root-$suite
	release=${suite%%-*}
	if ! is_complete "$final"; then
		debian_version
		say "fetching compiler and kernel headers of $suite"
		rm -rf "$at"
		mkdir -p "$at"
		lines=("$archive $release")
		case $suite in
		*-security) lines+=("$security $suite") ;;
		*-backports) lines+=("$archive $suite") ;;
		esac
		new_apt "$at/apt" "${lines[@]}"
		local headers=linux-headers-amd64
		[ "$suite" != bookworm-security ] || headers=linux-headers-6.12-amd64
		private_apt "$at/apt" apt-get -y --download-only --no-install-recommends \
			-t "$suite" install $headers make dash bash coreutils sed grep mawk \
			findutils diffutils perl gzip binutils >"$cache/log" 2>&1 ||
			die "cannot download headers of $suite; see $cache/log"
		unpack "$at/root" "$at"/apt/cache/archives/*.deb
		rm -rf "$at/apt" "$at"/root/usr/share/{doc,man,locale,info}
		# What the packages' scripts would have linked.
		ln -sf mawk "$at/root/usr/bin/awk"
		mkdir -p "$at/root/dev" "$at/root/tmp" "$at/root/module"
		publish "$at" "$final"
		rm -f "$cache/log"
	fi
	echo "$final/root"
}

# Kbuild writes beside the sources, so it gets a copy of them; only what is newer is copied, and only
# what is newer is built.
build_module()
{
	local headers=${FLIGHTLLM_HEADERS:-$cache/headers} at

	cd "$(dirname "$0")/.."
	at=$(realpath -m "${B:-build}")/module
	if [ ! -e "$headers/Makefile" ]; then
		say "no kernel headers in $headers, the module is not built (tools/setup.sh fetches them)"
		return 0
	fi
	mkdir -p "$at"
	tar -C kernel --exclude-vcs-ignores -c . | tar -C "$at" -x
	# A make of its own: what the outer one was told, a compiler or jobs, is not for the kernel's.
	env -u MAKEFLAGS make -s -j"$(nproc)" -C "$headers" M="$at" W=1 ${V:+V=$V} modules
	cp -u "$at/flightllm.ko" "$at/../flightllm.ko"
}

main()
{
	local do_packages=1 do_vm=1 do_selftests=1 refresh=0 option only=0

	if [ "${1:-}" = --build-root ] && [ $# = 2 ]; then
		mkdir -p "$cache"
		exec 9>"$cache/lock"
		flock 9
		fetch_build_root "$2"
		exit 0
	fi
	for option; do
		case $option in
		--packages | --vm | --selftests)
			[ $only = 1 ] || { do_packages=0 do_vm=0 do_selftests=0 only=1; }
			eval "do_${option#--}=1"
			;;
		--refresh) refresh=1 ;;
		--module)
			build_module
			exit 0
			;;
		--print-headers)
			is_complete "$cache/kernel" || die "no guest kernel yet; run tools/setup.sh"
			echo "$cache/headers"
			exit 0
			;;
		--help)
			usage
			exit 0
			;;
		*)
			usage >&2
			exit 2
			;;
		esac
	done
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock 9
	[ $refresh = 0 ] || rm -f "$cache"/{qemu,kernel,selftests}/.complete
	[ $do_packages = 0 ] || install_packages
	if { [ $do_vm = 1 ] && ! { is_complete "$cache/qemu" && is_complete "$cache/kernel"; }; } ||
		{ [ $do_selftests = 1 ] && ! is_complete "$cache/selftests"; }; then
		debian_version
	fi
	if [ $do_vm = 1 ]; then
		fetch_qemu
		fetch_kernel
	fi
	[ $do_selftests = 0 ] || fetch_selftests
	rm -f "$cache/log"
}

main "$@"
