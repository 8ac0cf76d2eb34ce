// add_one in C++ with a libc: copies input byte 0, plus 1, to output byte 0; logs once in `init`.
// What it is for: a WASI reactor, as plain clang makes it. `_initialize` runs the constructors, and
// printf reaches the host as `fd_write`.
//
// Needs: apt-get install -y --no-install-recommends clang lld wasi-libc libc++-14-dev-wasm32 \
//            libclang-rt-14-dev-wasm32
// Build: clang++ --target=wasm32-wasi -O2 -fno-exceptions -fno-rtti -mexec-model=reactor \
//            -stdlib=libc++ -o add_one_cpp.wasm add_one.cpp
#include <cstdio>

#include "../../plugins/sdk/camshaft.h"

namespace {

// Not constant, so that a build whose `_initialize` is not run can be told: it adds 0.
volatile uint8_t one = 1;

struct Constructed {
    uint8_t step;
    Constructed() : step(one) {}
} constructed;

} // namespace

extern "C" CAMSHAFT_EXPORT("init") void init() {
    std::printf("add_one is ready, step %d\n", constructed.step);
    // A reactor never exits, so nobody else empties the buffer.
    std::fflush(stdout);
}

extern "C" CAMSHAFT_EXPORT("poll") void poll() {
    uint8_t byte = 0;
    if (wasm_read_input(0, &byte, 1) == CAMSHAFT_OK) {
        byte = static_cast<uint8_t>(byte + constructed.step);
        wasm_write_output(0, &byte, 1);
    }
}
