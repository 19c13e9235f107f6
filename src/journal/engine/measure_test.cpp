// What the engine writes to the device for what a guest writes: real records, maps, locators, death
// lists and survivors, on a simulated disk.
//
//   HOLDFAST_MEASURE=1 journal_test --gtest_filter='EngineCost.*'
#include <gtest/gtest.h>

#include <cstdlib>

#include "journal/engine/test_home.h"

namespace hf::journal {
namespace {

struct Case {
  uint64_t disk = 0;
  uint64_t segment = 0;
  double target = 0;
  bool skewed = false;  // 80 % of the writes to 20 % of the disk
};

struct Spent {
  uint64_t guest = 0;
  uint64_t log = 0;
  uint64_t copied = 0;
  uint64_t maps = 0;
  uint64_t others = 0;
};

class Measured {
 public:
  explicit Measured(const Case& of) : case_(of), site_(1) {
    site_.log_options.segment_bytes = of.segment;
    site_.log_options.prepare_next = false;
    home_ = std::make_unique<EngineHome>(
        site_, EngineOptions{
                   .cache_bytes = 4u << 20,
                   .target_bytes = static_cast<uint64_t>(of.target * static_cast<double>(of.disk)),
                   .output_bytes = of.segment,
                   .outputs = 8});
    HF_ASSERT(home_->open().ok());
  }
  Spent now() const {
    const EngineStatus status = home_->engine->status();
    Spent spent{.guest = guest_,
                .copied = status.copied_bytes,
                .maps = status.maps_written,
                .others = status.others_written};
    for (const Segment& segment : home_->log->closed()) spent.log += segment.closed_size();
    return spent;
  }
  void write(uint64_t at, uint64_t length) {
    site_.run(*home_, [&] { return home_->log->accepting(); });
    HF_ASSERT(home_->write(VolumeId(1), at / kCell, length / kCell, false).ok());
    guest_ += length;
    if (++writes_ % 16 == 0) settle();
  }
  void fill() {
    for (uint64_t at = 0; at < case_.disk; at += 256u << 10) write(at, 256u << 10);
  }
  void overwrite(sim::SimRng& rng) {
    const uint64_t blocks = case_.disk / kBlockSize;
    for (uint64_t i = 0; i < blocks; ++i) {
      uint64_t block = rng.below(blocks);
      if (case_.skewed && rng.chance(4, 5)) block = rng.below(blocks / 5);
      write(block * kBlockSize, kBlockSize);
      peak_ = std::max(peak_, home_->engine->status().data_bytes);
    }
  }
  double peak() const { return static_cast<double>(peak_) / static_cast<double>(case_.disk); }

 private:
  // As fast as it gets on: what is due is done before the guest goes on.
  void settle() {
    site_.run(
        *home_,
        [&] {
          return home_->engine->idle() && home_->engine->next_deadline() == kNever &&
                 home_->log->staging().empty();
        },
        600'000'000);
  }
  const Case case_;
  TestSite site_;
  std::unique_ptr<EngineHome> home_;
  uint64_t guest_ = 0;
  uint64_t writes_ = 0;
  uint64_t peak_ = 0;
};

TEST(EngineCost, of_a_disk_that_is_overwritten_at_random) {
  if (std::getenv("HOLDFAST_MEASURE") == nullptr) GTEST_SKIP() << "HOLDFAST_MEASURE=1";
  for (const bool skewed : {false, true}) {
    for (const double target : {1.33, 1.38}) {
      for (const uint64_t disk : {uint64_t{32} << 20, uint64_t{128} << 20}) {
        Measured measured(
            {.disk = disk, .segment = disk / 128, .target = target, .skewed = skewed});
        sim::SimRng rng(2);
        measured.fill();
        const Spent filled = measured.now();
        measured.overwrite(rng);
        const Spent before = measured.now();
        measured.overwrite(rng);
        const Spent after = measured.now();
        const auto share = [&](uint64_t from, uint64_t to) {
          return static_cast<double>(to - from) / static_cast<double>(after.guest - before.guest);
        };
        const double fill =
            static_cast<double>(filled.log + filled.maps + filled.others + filled.copied) /
            static_cast<double>(filled.guest);
        const double whole = share(before.log, after.log) + share(before.copied, after.copied) +
                             share(before.maps, after.maps) + share(before.others, after.others);
        EXPECT_LE(fill, 1.2);
        EXPECT_LE(measured.peak(), 1.45);
        if (target > 1.35) EXPECT_LE(whole, 2.9);  // with less room uniform writes cost more
        std::printf(
            "%s %4lu MiB, target %.2f: fill %.3f; second overwrite: records %.2f + survivors %.2f "
            "+ maps %.3f + locators, deaths %.3f = %.2f; peak %.2f\n",
            skewed ? "80/20  " : "uniform", disk >> 20, target, fill, share(before.log, after.log),
            share(before.copied, after.copied), share(before.maps, after.maps),
            share(before.others, after.others), whole, measured.peak());
      }
    }
  }
}

}  // namespace
}  // namespace hf::journal
