// A device for tests: it lends memory between guard pages, loads kernels that were compiled for the processor, and runs
// them. It reads commands from its input and answers on its output; an access outside of a buffer ends it.
#include <dlfcn.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

struct Dim {
    unsigned x, y, z;
};

namespace {
const size_t PAGE = 4096, STACK = 128 * 1024;

enum State { READY, AT_WARP, AT_BLOCK, ENDED };
struct Fiber {
    ucontext_t context;
    void* stack = nullptr;
    State state = ENDED;
    Dim thread;
};
std::vector<Fiber> fibers;
std::vector<unsigned char> lanes;
ucontext_t scheduler;
size_t current;
void (*running)(const void*);
const void* params;
std::map<std::string, void (*)(const void*)> kernels;

void yield(State state) {
    fibers[current].state = state;
    swapcontext(&fibers[current].context, &scheduler);
}

void begin() {
    running(params);
    fibers[current].state = ENDED;
}

[[noreturn]] void die(const char* text) {
    std::fprintf(stderr, "emulated device: %s\n", text);
    _exit(3);
}
}  // namespace

extern "C" {
Dim emulated_thread, emulated_block, emulated_block_size, emulated_grid_size;
unsigned char* emulated_shared;
void emulated_block_barrier() { yield(AT_BLOCK); }
void emulated_warp_barrier() { yield(AT_WARP); }
unsigned emulated_lane() { return unsigned(current % 32); }
unsigned char* emulated_lanes() { return lanes.data() + current / 32 * 32 * 64; }
void emulated_register(const char* name, void (*kernel)(const void*)) { kernels[name] = kernel; }
}

namespace {
void resume(size_t i) {
    current = i;
    emulated_thread = fibers[i].thread;
    swapcontext(&scheduler, &fibers[i].context);
}

// Lets go whoever waits at a barrier that everybody has reached. Threads that wait at different barriers are a kernel's
// fault that a device would hang or compute nonsense with.
bool release(size_t threads) {
    bool any = false;
    for (size_t warp = 0; warp < threads; warp += 32) {
        size_t end = warp + 32 < threads ? warp + 32 : threads, waiting = 0, block = 0;
        for (size_t i = warp; i < end; i++) {
            waiting += fibers[i].state == AT_WARP;
            block += fibers[i].state == AT_BLOCK;
        }
        if (waiting == 0) continue;
        if (block > 0) die("a warp waits at two barriers at once");
        for (size_t i = warp; i < end; i++) {
            if (fibers[i].state == ENDED) die("a thread ended while its warp waits for it");
            fibers[i].state = READY;
        }
        any = true;
    }
    if (any) return true;
    for (size_t i = 0; i < threads; i++) {
        if (fibers[i].state == AT_BLOCK) {
            fibers[i].state = READY;
            any = true;
        }
    }
    return any;
}

void run_block(size_t threads) {
    for (size_t i = 0; i < threads; i++) {
        Fiber& fiber = fibers[i];
        unsigned x = emulated_block_size.x, y = emulated_block_size.y;
        fiber.thread = {unsigned(i % x), unsigned(i / x % y), unsigned(i / x / y)};
        getcontext(&fiber.context);
        if (!fiber.stack) {
            fiber.stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (fiber.stack == MAP_FAILED) die("no memory for a stack");
        }
        fiber.context.uc_stack.ss_sp = fiber.stack;
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = &scheduler;
        makecontext(&fiber.context, begin, 0);
        fiber.state = READY;
        resume(i);
    }
    while (release(threads)) {
        for (size_t i = 0; i < threads; i++)
            if (fibers[i].state == READY) resume(i);
    }
}

void launch(Dim grid, Dim block, unsigned shared) {
    size_t threads = size_t(block.x) * block.y * block.z;
    if (threads == 0 || threads > 1024) die("a block has 1 to 1024 threads");
    if (grid.y > 65535 || grid.z > 65535 || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu)
        die("a grid is not of a size that devices take");
    if (fibers.size() < threads) fibers.resize(threads);
    lanes.resize((threads + 31) / 32 * 32 * 64);
    std::vector<unsigned char> room(shared + 64);
    emulated_shared = room.data() + (64 - reinterpret_cast<uintptr_t>(room.data()) % 64) % 64;
    emulated_block_size = block;
    emulated_grid_size = grid;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                // What the last block left in shared memory must not look like zeros.
                std::memset(room.data(), 0xa5, room.size());
                emulated_block = {x, y, z};
                run_block(threads);
            }
}

void read_all(void* to, size_t count) {
    auto* at = static_cast<unsigned char*>(to);
    while (count > 0) {
        ssize_t got = read(0, at, count);
        if (got <= 0) _exit(0);
        at += got;
        count -= size_t(got);
    }
}
void write_all(const void* from, size_t count) {
    auto* at = static_cast<const unsigned char*>(from);
    while (count > 0) {
        ssize_t put = write(1, at, count);
        if (put <= 0) _exit(0);
        at += put;
        count -= size_t(put);
    }
}
template <class T> T take() {
    T x;
    read_all(&x, sizeof x);
    return x;
}
std::string take_text() {
    std::string text(take<uint64_t>(), '\0');
    read_all(&text[0], text.size());
    return text;
}

std::map<uint64_t, std::pair<void*, size_t>> buffers;

// The buffer ends where a page without access begins, but for what its alignment to 16 bytes leaves over; that is
// filled and looked at when the buffer is freed.
uint64_t allocate(size_t bytes) {
    size_t padded = (bytes + 15) / 16 * 16, pages = (padded + PAGE - 1) / PAGE * PAGE;
    auto* whole = static_cast<unsigned char*>(
        mmap(nullptr, pages + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (whole == MAP_FAILED || mprotect(whole + PAGE, pages + (pages == 0), PROT_READ | PROT_WRITE) != 0)
        die("no memory for a buffer");
    unsigned char* at = whole + PAGE + pages - padded;
    // A device's memory is not zero either.
    if (pages > 0) std::memset(whole + PAGE, 0x5a, pages);
    auto address = reinterpret_cast<uint64_t>(at);
    buffers[address] = {whole, bytes};
    return address;
}

void release_buffer(uint64_t address) {
    auto found = buffers.find(address);
    if (found == buffers.end()) die("freed what was not allocated");
    size_t bytes = found->second.second, padded = (bytes + 15) / 16 * 16;
    size_t pages = (padded + PAGE - 1) / PAGE * PAGE;
    auto* whole = static_cast<unsigned char*>(found->second.first);
    auto* at = reinterpret_cast<unsigned char*>(address);
    for (auto* byte = whole + PAGE; byte < at; byte++)
        if (*byte != 0x5a) die("a kernel wrote in front of a buffer");
    for (auto* byte = at + bytes; byte < at + padded; byte++)
        if (*byte != 0x5a) die("a kernel wrote behind a buffer");
    munmap(whole, pages + 2 * PAGE);
    buffers.erase(found);
}
}  // namespace

int main() {
    for (;;) {
        switch (take<char>()) {
            case 'A': {
                uint64_t address = allocate(take<uint64_t>());
                write_all(&address, 8);
                break;
            }
            case 'F':
                release_buffer(take<uint64_t>());
                break;
            case 'W': {
                auto to = take<uint64_t>(), bytes = take<uint64_t>();
                read_all(reinterpret_cast<void*>(to), bytes);
                break;
            }
            case 'R': {
                auto from = take<uint64_t>(), bytes = take<uint64_t>();
                write_all(reinterpret_cast<void*>(from), bytes);
                break;
            }
            case 'C': {
                auto to = take<uint64_t>(), from = take<uint64_t>(), bytes = take<uint64_t>();
                std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
                break;
            }
            case 'S': {
                auto to = take<uint64_t>();
                auto byte = take<uint8_t>();
                auto bytes = take<uint64_t>();
                std::memset(reinterpret_cast<void*>(to), byte, bytes);
                break;
            }
            case 'D':
                if (!dlopen(take_text().c_str(), RTLD_NOW | RTLD_GLOBAL)) die(dlerror());
                break;
            case 'L': {
                std::string name = take_text();
                auto grid = take<Dim>(), block = take<Dim>();
                auto shared = take<uint32_t>();
                std::string bytes = take_text();
                auto found = kernels.find(name);
                if (found == kernels.end()) die((name + " is not there").c_str());
                running = found->second;
                // Aligned as a kernel's parameters are.
                std::vector<uint64_t> aligned((bytes.size() + 7) / 8 + 1);
                std::memcpy(aligned.data(), bytes.data(), bytes.size());
                params = aligned.data();
                launch(grid, block, shared);
                char done = 1;
                write_all(&done, 1);
                break;
            }
            default:
                die("no such command");
        }
    }
}
