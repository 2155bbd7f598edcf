// Nanoseconds, there and back, in which two processors hand each other a cache line: in the fastest
// of several rounds, as either may be interrupted.
// Usage: core_to_core 0 1

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

constexpr int ROUNDS = 5, TURNS = 20000;
alignas(128) std::atomic<int> line{0};  // of its own: nothing else is written nearby

void stay_on(const char* processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(std::atoi(processor), &set);
  if (pthread_setaffinity_np(pthread_self(), sizeof set, &set)) std::exit(1);
}

void wait_for(int value) {
  while (line.load(std::memory_order_acquire) != value) {
  }
}

int main(int, char** processors) {
  stay_on(processors[1]);
  std::thread other([&] {
    stay_on(processors[2]);
    for (int turn = 0; turn < ROUNDS * TURNS; ++turn) {
      wait_for(2 * turn + 1);
      line.store(2 * turn + 2, std::memory_order_release);
    }
  });
  std::chrono::duration<double, std::nano> fastest = std::chrono::hours(1);
  for (int round = 0; round < ROUNDS; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int turn = round * TURNS; turn < (round + 1) * TURNS; ++turn) {
      line.store(2 * turn + 1, std::memory_order_release);
      wait_for(2 * turn + 2);
    }
    const std::chrono::duration<double, std::nano> taken =
        std::chrono::steady_clock::now() - start;
    fastest = std::min(fastest, taken);
  }
  other.join();
  std::printf("%.1f\n", fastest.count() / TURNS);
}
