// The entry points: which instruction set runs, and how tasks are spread over threads.
#include <pthread.h>

#include <atomic>
#include <cstring>

#include "scan.h"

extern const Kernels hymunet_kernels_generic;
#ifdef HYMUNET_X86
extern const Kernels hymunet_kernels_avx2, hymunet_kernels_avx512;
#endif

namespace {

typedef int (*Task)(const Scan &, int64_t);
typedef void (*GompParallel)(void (*)(void *), void *, unsigned, unsigned);
constexpr int kMaxThreads = 256;

struct Work {
    const Scan *scan;
    Task task;
    int64_t count;
    std::atomic<int64_t> next;
    std::atomic<int> failed;
};

void drain(void *argument) {
    Work &work = *static_cast<Work *>(argument);
    for (int64_t task; (task = work.next.fetch_add(1, std::memory_order_relaxed)) < work.count;)
        if (work.task(*work.scan, task)) work.failed.store(1, std::memory_order_relaxed);
}

void *drain_thread(void *argument) {
    drain(argument);
    return nullptr;
}

// Runs tasks 0..count-1 on the threads of torch's own OpenMP pool, or on plain threads where there is none.
int run(const Scan &scan, Task task, int64_t count) {
    Work work{&scan, task, count, {0}, {0}};
    int threads = scan.threads < 1 ? 1 : scan.threads < kMaxThreads ? scan.threads : kMaxThreads;
    if (threads > count) threads = static_cast<int>(count);
    if (threads <= 1) {
        drain(&work);
    } else if (scan.gomp_parallel) {
        reinterpret_cast<GompParallel>(scan.gomp_parallel)(drain, &work, threads, 0);
    } else {
        pthread_t helpers[kMaxThreads];
        int started = 0;
        while (started < threads - 1 && !pthread_create(&helpers[started], nullptr, drain_thread, &work)) started++;
        drain(&work);
        for (int i = 0; i < started; i++) pthread_join(helpers[i], nullptr);
    }
    return work.failed.load();
}

const Kernels *find(const char *isa) {
#ifdef HYMUNET_X86
    __builtin_cpu_init();
    if (!strcmp(isa, "avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
        return &hymunet_kernels_avx512;
    if (!strcmp(isa, "avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &hymunet_kernels_avx2;
#endif
    return strcmp(isa, "generic") ? nullptr : &hymunet_kernels_generic;
}

}  // namespace

#define API extern "C" __attribute__((visibility("default")))

API int hymunet_supports(const char *isa) { return find(isa) != nullptr; }

// Both return 0, or 1 when memory ran out.
API int hymunet_forward(const char *isa, const Scan *scan) {
    const Kernels &kernels = *find(isa);
    return run(*scan, kernels.forward, kernels.forward_tasks(*scan));
}

API int hymunet_backward(const char *isa, const Scan *scan) {
    const Kernels &kernels = *find(isa);
    if (run(*scan, kernels.backward, scan->batch * groups(*scan))) return 1;
    return run(*scan, kernels.reduce, reduce_tasks(*scan));
}

API int64_t hymunet_groups(const Scan *scan) { return groups(*scan); }

// Runs the bare inner loop on the calling thread; the number of state updates it made.
API double hymunet_peak(const char *isa, int64_t rounds) { return find(isa)->peak(rounds); }

// Raised whenever scan.h changes; hymunet/ops/cpu.py refuses a library of another number.
API int hymunet_abi() { return 2; }
