# make help lists the targets.

PREFIX  = /usr
DESTDIR =
CARGO   = cargo
TARGET  = $(or $(CARGO_TARGET_DIR),target)
# Static, so that it runs on every release of the test hosts wherever it was built; that takes a target by name.
TUPLE   = $(shell $(CARGO) -vV | sed -n 's/^host: //p')
STATIC  = RUSTFLAGS='-C target-feature=+crt-static' $(CARGO)
# What is released has no path of the machine that built it inside, so that it is the same from every folder; and names for src/hot.ld to
# tell all functions apart by.
REMAP   = --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo --remap-path-prefix=$(CURDIR)=/netns-networkd
# SHA-256 does without the processor's own: to ask whether it has it takes longer than `up` needs it for.
SHA     = --cfg sha2_256_backend="soft"
RELEASE = RUSTFLAGS='-C target-feature=+crt-static -C symbol-mangling-version=v0 $(SHA) $(REMAP)' $(CARGO)
# musl where the toolchain has it: a program with glibc asks the processor some forty questions at each start (docs/decisions/0029).
MUSL    = $(TUPLE:-gnu=-musl)
RELEASE_TUPLE = $(if $(wildcard $(shell rustc --print sysroot)/lib/rustlib/$(MUSL)),$(MUSL),$(TUPLE))
# What install puts in place: a tarball brings it, the tests give their debug build.
BIN     = $(or $(wildcard ./netns-networkd),$(TARGET)/release/netns-networkd)

# What the files in units/ say of where things are.
PATHS = s|/usr/bin/netns-networkd|$(PREFIX)/bin/netns-networkd|; s|/usr/lib/netns-networkd|$(PREFIX)/lib/netns-networkd|

LIB = $(DESTDIR)$(PREFIX)/lib/systemd
MAN = $(DESTDIR)$(PREFIX)/share/man
# Debian's; other distributions look into site-functions.
ZSH = zsh/vendor-completions
DOC = $(DESTDIR)$(PREFIX)/share/doc/netns-networkd

help:
	@echo 'make demo      shows it at work on a throw-away Debian host (root, Debian 12 or 13)'
	@echo 'make test      runs every test; installs what it needs (root, Debian 12 or 13)'
	@echo 'make test-sid  runs those of the hosts on Debian sid, with the newest systemd'
	@echo 'make soak      has namespaces come and go 1,000 times, which takes half an hour; ROUNDS=N'
	@echo 'make test-vm   runs those of them that need a virtual machine'
	@echo 'make bench     how long it takes, beside the least that the kernel needs and what others take; results in target/speed'
	@echo 'make build     builds $(BIN)'
	@echo 'make install   installs under $$(DESTDIR)$$(PREFIX); PREFIX is $(PREFIX)'
	@echo 'make deb       builds a Debian package in $(TARGET)/dist, which installs on Debian 12 and later'
	@echo 'make tarball   builds a tarball there, which has the program in it and needs only make to install'
	@echo 'make test-deb  runs the tests of the hosts with that package installed; FILTER=host_main runs some'
	@echo 'make reproducible  builds both twice, from two folders, and compares'
	@echo 'make deny      runs cargo-deny: licences, sources, known faults of crates'
	@echo 'make man       makes docs/man from the documents'
	@echo 'make clean     removes what was built'

build:
	@test '$(RELEASE_TUPLE)' != '$(TUPLE)' || echo 'note: `rustup target add $(MUSL)` first makes a program that starts sooner' >&2
	$(RELEASE) build --release --locked --target $(RELEASE_TUPLE)
	install -D '$(TARGET)/$(RELEASE_TUPLE)/release/netns-networkd' '$(TARGET)/release/netns-networkd'

# Builds nothing, so that it can run as root after a build as a user.
install:
	@test -x '$(BIN)' || { echo '$(BIN) is missing: run make build first' >&2; exit 1; }
	install -Dm755 '$(BIN)' '$(DESTDIR)$(PREFIX)/bin/netns-networkd'
	install -d '$(LIB)/system' '$(LIB)/network' '$(DOC)/networkd' '$(DOC)/units'
	for unit in $(wildcard units/*.service); do \
	    sed '$(PATHS)' "$$unit" | install -m644 /dev/stdin '$(LIB)/system/'"$${unit##*/}" || exit 1; \
	done
	sed '$(PATHS)' units/dhcpcd-hook | install -Dm755 /dev/stdin '$(DESTDIR)$(PREFIX)/lib/netns-networkd/dhcpcd-hook'
	$(call install-files,networkd/*.network networkd/*.netdev,$(LIB)/network)
	$(call install-files,networkd/*.example,$(DOC)/networkd)
	$(call install-files,units/*.example,$(DOC)/units)
	$(call install-files,CHANGELOG.md LICENSE,$(DOC))
	# beside the documents that it refers to
	sed 's|](docs/|](|g' README.md | install -m644 /dev/stdin '$(DOC)/README.md'
	cd docs && find . -type f -not -path './man*' -exec install -Dm644 '{}' '$(abspath $(DOC))/{}' \;

	install -Dm644 docs/man/netns-networkd.8 'docs/man/netns@.service.8' -t '$(MAN)/man8'
	install -Dm644 docs/man/netns-networkd.toml.5 -t '$(MAN)/man5'
	$(call install-completion,bash,bash-completion/completions/netns-networkd)
	$(call install-completion,zsh,$(ZSH)/_netns-networkd)
	$(call install-completion,fish,fish/vendor_completions.d/netns-networkd.fish)

# $(1): shell, $(2): place below share
install-completion = '$(BIN)' completions $(1) | install -Dm644 /dev/stdin '$(DESTDIR)$(PREFIX)/share/$(2)'

# $(1): patterns, $(2): folder; no match is fine
install-files = $(if $(wildcard $(1)),install -m644 $(wildcard $(1)) '$(2)')

# --tests leaves out examples in doc comments, so that the last line is the one that counts the tests.
test:
	tests/common/host.sh setup
	$(CARGO) fmt --check
	$(STATIC) clippy --locked --all-targets --target $(TUPLE) -- -D warnings
	# as it is released: without src/sys/fault.rs
	$(STATIC) clippy --locked --target $(TUPLE) --config 'profile.dev.package.netns-networkd.debug-assertions=false' -- -D warnings
	$(STATIC) test --locked --tests --target $(TUPLE)

deb: build
	rm -f '$(TARGET)'/dist/*.deb
	deb/build '$(BIN)' '$(TARGET)/dist'
	@! command -v lintian >/dev/null || lintian --fail-on error,warning '$(TARGET)'/dist/*.deb

tarball: build
	rm -f '$(TARGET)'/dist/*.tar.gz
	deb/tarball '$(BIN)' '$(TARGET)/dist'

FILTER = host_
test-deb: deb
	tests/common/host.sh setup
	NETNS_TEST_DEB="$$(realpath '$(TARGET)'/dist/*.deb)" $(STATIC) test --locked --tests --target $(TUPLE) -- $(FILTER)

reproducible: deb tarball
	deb/reproducible '$(TARGET)/dist'

deny:
	$(CARGO) deny --all-features check

test-sid:
	tests/common/host.sh setup
	NETNS_TEST_SUITES=sid $(STATIC) test --locked --tests --target $(TUPLE) -- ::sid

ROUNDS = 1000
soak:
	tests/common/host.sh setup
	NETNS_TEST_SOAK=$(ROUNDS) $(STATIC) test --locked --tests --target $(TUPLE) -- rounds_leave_nothing_behind

# What this machine's kernel cannot show, in a virtual machine with Debian's own.
test-vm:
	tests/common/host.sh setup
	$(STATIC) test --locked --tests --target $(TUPLE) -- vm_

BENCH =
bench: build
	$(STATIC) bench --locked --profile dev --bench bench --target $(TUPLE) -- $(BENCH)

# What `up` and `down` run, for the linker; after larger changes of them. Needs valgrind.
order:
	NETNS_NETWORKD_UNORDERED=1 CARGO_PROFILE_RELEASE_STRIP=none $(RELEASE) rustc --release --locked --bin netns-networkd --target $(RELEASE_TUPLE) -- -C link-arg=-Wl,-Map='$(abspath $(TARGET))/map'
	$(STATIC) bench --locked --profile dev --bench bench --target $(TUPLE) -- --bin '$(TARGET)/$(RELEASE_TUPLE)/release/netns-networkd' --order '$(abspath $(TARGET))/map'

# After a change of the documents or of the command line; a test says when.
man:
	$(STATIC) run --quiet --locked --example man --target $(TUPLE)

demo:
	tests/demo.sh

clean:
	$(CARGO) clean

.PHONY: help build install deb tarball reproducible deny test test-deb test-sid soak test-vm bench order man demo clean
