# SPDX-License-Identifier: MIT OR GPL-2.0-only
# The two commands that matter are `make smoke` and `make test`; `make help` lists the others.

cargo := cargo
# As given, dollars and quotes and all.
override CMD := $(value CMD)
export CMD

.PHONY: help deps tool static initramfs deb kernel vm smoke bench test lint audit clean clean-cache
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'Variables: PROFILE=default|debug BZIMAGE=FILE KDIR=DIRECTORY KERNEL_VERSION=7.2 NO_INSTALL=1'
	@echo '           CPUS=2 MEM=4G ICOUNT=1 TIMEOUT=600 KLOG=FILE; kernel/boot --help explains them'

deps: ## Install the system packages that are missing (NO_INSTALL=1 only lists them)
	@kernel/deps
	@command -v $(cargo) >/dev/null || { echo 'make: cargo is missing: install Rust' >&2; exit 1; }

tool: deps ## Build target/release/uringbpf
	@$(cargo) build --release --locked

# A target of its own, so that what runs while building is linked as usual.
static_target := $(shell uname -m)-unknown-linux-gnu
static: deps ## Build target/…-linux-gnu/release/uringbpf, one file that needs no library
	@LIBBPF_SYS_LIBRARY_PATH=$$(pkg-config --variable=libdir libelf) RUSTFLAGS='-C target-feature=+crt-static' \
		$(cargo) build --release --locked --features static --target $(static_target)

initramfs: static ## Boot the reference kernel with that file and nothing else; CMD='…' is its arguments
	@eval "set -- $$CMD" && tests/initramfs "$$@"

# What cargo-deb is installed to, where the machine has none.
cargo_deb := $(or $(URINGBPF_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/uringbpf)/cargo-deb
deb: tool ## Build target/debian/uringbpf_….deb
	@kernel/deps deb
	@command -v cargo-deb >/dev/null || $(cargo) install --quiet --locked --root $(cargo_deb) cargo-deb
	@mkdir -p target/completions
	@uringbpf=$${CARGO_TARGET_DIR:-target}/release/uringbpf && \
		$$uringbpf completions bash >target/completions/uringbpf.bash && \
		$$uringbpf completions zsh >target/completions/_uringbpf && \
		$$uringbpf completions fish >target/completions/uringbpf.fish
	@PATH=$(cargo_deb)/bin:$$PATH $(cargo) deb --quiet --no-build

kernel: deps ## Build the reference kernel
	@kernel/build

vm: tool ## Run CMD='…' in a virtual machine on the reference kernel
	@kernel/boot

smoke: tool ## Run every program over every type of buffer in the virtual machine
	@kernel/boot tests/vm/smoke

bench: tool ## Count instructions per request, page and byte (FORMAT=json: one object)
	@ICOUNT=1 kernel/boot 'uringbpf bench --yardstick $(if $(FORMAT),--format $(FORMAT))'

test: deps ## Run all tests: on this machine and in the virtual machine
	@kernel/deps test
	@tests/run

lint: deps ## Check format and lints of Rust code and shell scripts
	@kernel/deps lint
	@$(cargo) fmt --check
	@$(cargo) clippy --all-targets --locked -- -D warnings
	@shellcheck -x $$(grep -rlE '^#!/.*\b(ba)?sh$$' kernel tests .ci)

# What cargo-deny is installed to, where the machine has none.
cargo_deny := $(or $(URINGBPF_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/uringbpf)/cargo-deny
audit: ## Check the dependencies' licences, sources and known vulnerabilities (needs network)
	@tests/audit $(cargo_deny)

clean: ## Remove what cargo built
	@$(cargo) clean

clean-cache: ## Remove the cache: kernel sources, builds, images, virtme-ng
	@rm -rf "$${URINGBPF_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/uringbpf}"
