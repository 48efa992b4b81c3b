# make demo      see it work, without any hardware         make test     everything, the lab too
# make install   PREFIX=/usr/local DESTDIR=                make lab      SCENARIO=name: scenarios in a test machine
# make deps      install what building and testing needs   make bench    make doc    make man    make lint

PREFIX ?= /usr/local
DESTDIR ?=
SCENARIO ?=
CARGO ?= cargo
# The flavour that is installed; test builds share cargo's other one.
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BINARY := $(TARGET_DIR)/release/mydisks
BINDIR := $(PREFIX)/bin
MANDIR := $(PREFIX)/share/man
UNITDIR := $(PREFIX)/lib/systemd/system
RULESDIR := $(PREFIX)/lib/udev/rules.d
# mount(8) and umount(8) look only in /sbin, /sbin/fs.d and /sbin/fs, whatever PREFIX says. umount(8) asks for the
# helper that utab names, or for that of the type in mountinfo, fuse.mydisks.
HELPERS := mount.mydisks umount.mydisks mount.fuse.mydisks umount.fuse.mydisks
MAN_SOURCES := $(wildcard man/*.md)
MAN_PAGES := $(MAN_SOURCES:.md=)

.DELETE_ON_ERROR:
.PHONY: all build demo test lab install deps doc man lint bench root

all: build

build:
	@tests/lab/deps build
	$(CARGO) build --release --locked

# Built by a plain `make` or the first `make install`; a later one builds nothing.
$(BINARY): Cargo.toml Cargo.lock $(shell find src -type f 2>/dev/null)
	@tests/lab/deps build
	$(CARGO) build --release --locked
	@touch $@

demo: deps root
	@$(CARGO) test --quiet --locked --test lab -- --demo

test: deps root
	@if command -v cargo-clippy >/dev/null; then $(MAKE) --no-print-directory lint; else echo 'make: no cargo-clippy here: lint left out'; fi
	$(CARGO) test --locked
	@$(MAKE) --no-print-directory lab

lab: deps root
	$(CARGO) test --locked --no-run
	$(CARGO) test --locked --test lab -- $(SCENARIO)

# FUSE mounts, loop devices and the machine-wide read-only share of the lab are root's alone.
root:
	@[ "$$(id -u)" = 0 ] || { echo 'make: the tests mount file systems and attach loop devices, which needs root: use "sudo make test" (or "sudo make demo")' >&2; exit 1; }

deps:
	@tests/lab/deps build test

install: $(BINARY)
	install -D -m 755 $(BINARY) "$(DESTDIR)$(BINDIR)/mydisks"
	install -d "$(DESTDIR)/sbin"
	for helper in $(HELPERS); do ln -sfn "$(BINDIR)/mydisks" "$(DESTDIR)/sbin/$$helper" || exit 1; done
	for page in $(MAN_PAGES); do install -D -m 644 "$$page" "$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}" || exit 1; done
	install -D -m 644 config/mydisks.toml "$(DESTDIR)/etc/mydisks/mydisks.toml.example"
	install -d "$(DESTDIR)$(UNITDIR)"
	sed 's|@BINDIR@|$(BINDIR)|' config/mydisks.service >"$(DESTDIR)$(UNITDIR)/mydisks.service"
	chmod 644 "$(DESTDIR)$(UNITDIR)/mydisks.service"
	install -d "$(DESTDIR)$(RULESDIR)"
	sed 's|@BINDIR@|$(BINDIR)|g' config/61-mydisks.rules >"$(DESTDIR)$(RULESDIR)/61-mydisks.rules"
	chmod 644 "$(DESTDIR)$(RULESDIR)/61-mydisks.rules"

# The pages are checked in, so that only who changes one needs pandoc.
man: $(MAN_PAGES)

man/%: man/%.md
	{ printf '.\\" Source checksum: %s\n' "$$(cksum <$<)"; pandoc --standalone --from markdown --to man $<; } >$@

doc:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --test lab -- -D warnings

bench: deps root
	$(CARGO) bench --locked
