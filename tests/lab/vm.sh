#!/bin/sh
# vm.sh [-t SECONDS] [-m MiB] [-c CPUS] COMMAND...   run COMMAND as root in a throw-away QEMU machine whose root
# file system is this machine's own: 9p, read-only, under a tmpfs overlay.
# Exit status: COMMAND's; 124 on time-out; 125 when the machine died (panic, power-off) without reporting;
# 2 when it cannot be started here.  $LAB_SHARE (default: a fresh directory) is shared read-write at the same
# path.  What runs as process 1 in there: lab-init, beside this file.  Variables: README.md.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
T=300 MEM=2048 CPUS=2
die() { printf 'vm.sh: %s\n' "$*" >&2; exit 2; }
while getopts t:m:c: o; do case $o in t) T=$OPTARG;; m) MEM=$OPTARG;; c) CPUS=$OPTARG;; *) exit 2;; esac; done
shift $((OPTIND-1))
[ $# -gt 0 ] || die 'no command given'

for program in qemu-system-x86_64 busybox cpio xz modprobe timeout; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || die "$program is missing: run \"make deps\""
done
KVER=${LAB_KVER:-$(for k in /boot/vmlinuz-*; do [ -d "/lib/modules/${k#*vmlinuz-}" ] && echo "${k#*vmlinuz-}"; done | sort -V | tail -n 1)}
[ -n "$KVER" ] && [ -r "/boot/vmlinuz-$KVER" ] || die 'no kernel with modules in /boot and /lib/modules: run "make deps" (package linux-image-amd64)'
case $HERE/ in /run/*|/dev/*|/proc/*|/sys/*) die "$HERE lies on a file system that the machine makes anew: move the checkout";; esac
case $HERE in *"
"*) die 'a path with a line break cannot be passed on';; esac

SHARE=${LAB_SHARE:-$(mktemp -d "${TMPDIR:-/tmp}/lab-share.XXXXXX")}; mkdir -p "$SHARE"
RUN=$(mktemp -d /tmp/lab-run.XXXXXX); QEMU=
trap 'rm -rf "$RUN"; [ -n "${LAB_SHARE-}" ] || rm -rf "$SHARE"' EXIT
trap '[ -z "$QEMU" ] || kill "$QEMU"; exit 130' INT TERM HUP

# Made once per kernel and version of this file, and put in place by one rename.
STAMP=$(cksum < "$HERE/vm.sh" | cut -d' ' -f1)
CACHE=${LAB_CACHE:-/var/tmp/mydisks-lab}/$KVER-$STAMP; INITRD=$CACHE/initrd KERNEL=$CACHE/vmlinux
mkdir -p "$CACHE"
if [ ! -e "$KERNEL" ]; then             # uncompressed kernel, booted by PVH: saves 3 s of decompression and BIOS under TCG
    z=/boot/vmlinuz-$KVER
    off=$(LC_ALL=C grep -abo "$(printf '\3757zXZ')" "$z" | head -n 1 | cut -d: -f1)
    { [ -n "$off" ] && tail -c +$((off+1)) "$z" | xz -dcq --single-stream 2>/dev/null; } > "$RUN/k" || :
    [ "$(head -c 4 "$RUN/k" | tail -c 3)" = ELF ] || cp "$z" "$RUN/k"   # other compression: take it as it is
    mv "$RUN/k" "$KERNEL.$$"; mv "$KERNEL.$$" "$KERNEL"
fi
if [ ! -e "$INITRD" ]; then             # tiny initramfs: busybox and the 9p/virtio modules
    D=$RUN/ir; mkdir -p "$D/m" "$D/proc" "$D/sys" "$D/dev" "$D/ro" "$D/rw" "$D/new" "$D/lab"
    cp "$(command -v busybox)" "$D/busybox"; n=10
    PATH=$PATH:/usr/sbin:/sbin modprobe -S "$KVER" -D -a virtio_pci 9pnet_virtio 9p overlay virtio_console |
    awk '$1=="insmod" && !s[$2]++ {print $2}' |
    while read -r m; do
        case $m in *.xz) xz -dc "$m";; *.zst) zstd -dcq "$m";; *) cat "$m";; esac > "$D/m/$n-${m##*/}"; n=$((n+1)); done
    cat > "$D/init" <<'X'
#!/busybox sh
b=/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs dev /dev
for m in /m/*; do $b insmod $m; done
IFS= read -r share < /lab/share; IFS= read -r init < /lab/init
o=trans=virtio,version=9p2000.L,msize=524288
$b mount -t 9p -o ro,cache=loose,$o root /ro || $b poweroff -f
$b mount -t tmpfs -o mode=755 tmpfs /rw; $b mkdir /rw/u /rw/w
$b mount -t overlay -o lowerdir=/ro,upperdir=/rw/u,workdir=/rw/w overlay /new || $b poweroff -f
for f in proc sys dev; do $b mount --move /$f /new/$f; done
$b mkdir -p "/new$share"
$b mount -t 9p -o cache=none,$o share "/new$share" || $b poweroff -f
export LAB_SHARE="$share"
exec $b switch_root /new "$init"
X
    chmod +x "$D/init"; (cd "$D" && find . | cpio -o -H newc --quiet) > "$RUN/i"
    mv "$RUN/i" "$INITRD.$$"; mv "$INITRD.$$" "$INITRD"
fi
# Paths travel in a second archive behind the first one: the kernel's command line could not carry every path.
mkdir -p "$RUN/p/lab"; printf '%s\n' "$SHARE" > "$RUN/p/lab/share"; printf '%s\n' "$HERE/lab-init" > "$RUN/p/lab/init"
{ cat "$INITRD"; (cd "$RUN/p" && find . | cpio -o -H newc --quiet); } > "$RUN/initrd"

quote() { printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }
comma() { printf %s "$1" | sed 's/,/,,/g'; }
{ printf 'cd '; quote "$PWD"; echo ' || exit 125'; for a; do quote "$a"; printf ' '; done; echo; } > "$SHARE/.cmd"
rm -f "$SHARE/.rc"
# $LAB_QEMU and $LAB_APPEND are lists of words on purpose.
# shellcheck disable=SC2086
timeout -k 5 "$T" qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none \
    -M "${LAB_MACHINE:-q35,usb=off,vmport=off}" -accel "${LAB_ACCEL:-tcg,thread=multi,tb-size=1024}" \
    -cpu "${LAB_CPU:-$(case ${LAB_ACCEL-} in kvm*) echo host;; *) echo Nehalem;; esac)}" \
    -smp "$CPUS" -m "$MEM" -kernel "$KERNEL" -initrd "$RUN/initrd" -serial stdio -device virtio-rng-pci \
    -append "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check random.trust_cpu=on usb_storage.delay_use=0 modprobe.blacklist=ahci,i2c_i801,lpc_ich,iTCO_wdt,psmouse,pcspkr,serio_raw ${LAB_APPEND:-}" \
    -fsdev local,id=root,path=/,security_model=none,readonly=on,multidevs=remap -device virtio-9p-pci,fsdev=root,mount_tag=root \
    -fsdev "local,id=share,path=$(comma "$SHARE"),security_model=none,multidevs=remap" -device virtio-9p-pci,fsdev=share,mount_tag=share \
    -device qemu-xhci,id=xhci,p2=8,p3=8 -device virtio-serial-pci \
    -chardev "socket,id=qmps,path=$RUN/qmp,server=on,wait=off" -mon chardev=qmps,mode=control \
    -chardev "socket,id=qmpc,path=$RUN/qmp" -device virtserialport,chardev=qmpc,name=qmp \
    ${LAB_QEMU:-} </dev/null &
QEMU=$!
q=0; wait "$QEMU" || q=$?
QEMU=
[ -s "$SHARE/.rc" ] && exit "$(cat "$SHARE/.rc")"
case $q in 124|137) exit 124;; *) exit 125;; esac
