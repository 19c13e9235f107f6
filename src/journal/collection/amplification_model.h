// What the schedule costs a device: a disk of blocks in memory, records and survivors with the
// sizes that they have in files, the product's choice of victims, and the delays that are the
// engine's own: a death counts once the history window has passed it and the run of T segments that
// hid it has closed. Maps, locators and death lists are counted by entries, at sizes measured from
// their codecs.
#pragma once

#include <algorithm>
#include <deque>

#include "journal/chain/schedule.h"
#include "journal/collection/survivor.h"
#include "journal/collection/victims.h"
#include "sim/world/rng.h"

namespace hf::journal {

struct ModelOptions {
  uint64_t blocks = 0;  // of the disk, 4 KiB each
  uint64_t segment_bytes = 0;
  uint64_t window_bytes = 0;  // of guest writes, kept as history
  double target = 1.35;       // bytes of all files, of (visible + window)
  bool skewed = false;        // 80 % of the writes go to 20 % of the blocks
  VictimOrder order = VictimOrder::kDecliningCost;
  uint64_t outputs = 8;
};

struct ModelResult {
  double fill = 0;          // device bytes a guest byte
  double random = 0;        // of the second overwrite
  double space_peak = 0;    // of (visible + window), outputs beside their victims included
  double garbage_grew = 0;  // over the second overwrite, of the disk
  bool stuck = false;       // the target was not reached
};

class AmplificationModel {
 public:
  AmplificationModel(uint64_t seed, const ModelOptions& options)
      : options_(options), rng_(seed), owner_(options.blocks) {}

  ModelResult run() {
    ModelResult result;
    const uint64_t fill_units = std::min<uint64_t>(256, options_.blocks);
    for (uint64_t block = 0; block < options_.blocks; block += fill_units) {
      write(block, fill_units);
    }
    result.fill = device_ / guest_;
    overwrite();
    const double device = device_;
    const double guest = guest_;
    const double garbage = held_ - found_live();
    peak_ = 0;
    overwrite();
    result.random = (device_ - device) / (guest_ - guest);
    result.space_peak = peak_ / within();
    result.garbage_grew = (held_ - found_live() - garbage) / disk_bytes();
    result.stuck = stuck_;
    return result;
  }

 private:
  // Measured: chain/measure_test.cpp, rounded up.
  static constexpr double kMapEntry = 31;
  static constexpr double kLocatorEntry = 8;
  static constexpr double kDeathEntry = 10;

  struct Record {
    uint64_t block = 0;
    std::vector<bool> live;  // as far as deaths count
    uint64_t live_count = 0;
  };
  struct File {
    std::vector<uint32_t> records;
    double bytes = 0;
    double live_bytes = 0;
    double hidden_at = 0;  // mean of the writes at which its dead died
    uint64_t deaths = 0;
    bool closed = false;
  };
  struct Hidden {
    uint64_t at = 0;  // guest bytes written until then
    uint32_t record = 0;
    uint32_t unit = 0;
  };
  static double stored(const Record& record) {
    const size_t units = record.live.size();
    const double bitmap =
        record.live_count == units ? -32.0 : static_cast<double>((units + 63) / 64 * 8);
    const double hashes =
        record.live_count == units ? 0 : 32.0 * static_cast<double>(pruned_hashes(record.live));
    const double bytes = static_cast<double>(kSurvivorFixedSize) + bitmap + hashes +
                         static_cast<double>(record.live_count) * 4112;
    return record.live_count == 0 ? 0
                                  : static_cast<double>(align_record(static_cast<size_t>(bytes)));
  }
  double disk_bytes() const { return static_cast<double>(options_.blocks) * 4096; }
  double within() const { return disk_bytes() + static_cast<double>(options_.window_bytes); }
  double found_live() const {
    double sum = 0;
    for (const File& file : files_) sum += file.live_bytes;
    return sum;
  }

  void overwrite() {
    const uint64_t hot = options_.blocks / 5;
    for (uint64_t i = 0; i < options_.blocks; ++i) {
      const uint64_t range = options_.skewed && rng_.chance(4, 5) ? hot : options_.blocks;
      // Hot blocks lie anywhere.
      write(rng_.below(range) * 2654435761u % options_.blocks, 1);
    }
  }

  void write(uint64_t block, uint64_t count) {
    if (open_ == nullptr) {
      files_.emplace_back();
      open_ = &files_.back();
      open_index_ = files_.size() - 1;
    }
    const auto id = static_cast<uint32_t>(records_.size());
    records_.push_back(
        {.block = block, .live = std::vector<bool>(count, true), .live_count = count});
    file_of_.push_back(static_cast<uint32_t>(open_index_));
    guest_ += static_cast<double>(count) * 4096;
    for (uint64_t i = 0; i < count; ++i) {
      Owner& owner = owner_[block + i];
      if (owner.known) {
        hidden_.push_back(
            {.at = static_cast<uint64_t>(guest_),
             .record = owner.record,
             .unit = static_cast<uint32_t>(block + i - records_[owner.record].block)});
      }
      owner = {.record = id, .known = true};
    }
    File& file = files_[open_index_];
    file.records.push_back(id);
    const double bytes = stored(records_[id]);
    file.bytes += bytes;
    file.live_bytes += bytes;
    held_ += bytes;
    device_ += bytes;
    if (file.bytes >= static_cast<double>(options_.segment_bytes)) close();
  }

  void close() {
    ++ordinal_;
    files_[open_index_].closed = true;
    const auto entries = static_cast<double>(files_[open_index_].records.size());
    open_ = nullptr;
    young_.push_back({.end = static_cast<uint64_t>(guest_), .file = open_index_});
    // Its map, and its part of each larger one: what is hidden within a run is counted too.
    const double levels = static_cast<double>(runs_per_close());
    device_ += entries * (kMapEntry * levels + kDeathEntry * 2);
    if (ordinal_ % kMapFanIn == 0) found_until_ = static_cast<uint64_t>(guest_);
    apply_deaths();
    collect();
  }

  // Each entry is written once a level that exists.
  uint64_t runs_per_close() const {
    uint64_t levels = 1;
    for (uint64_t length = kMapFanIn; length <= ordinal_; length *= kMapFanIn) ++levels;
    return levels;
  }

  void apply_deaths() {
    const auto now = static_cast<uint64_t>(guest_);
    const uint64_t window = now - std::min(now, options_.window_bytes);
    while (!hidden_.empty() && hidden_.front().at <= std::min(window, found_until_)) {
      const Hidden hidden = hidden_.front();
      hidden_.pop_front();
      Record& record = records_[hidden.record];
      File& file = files_[file_of_[hidden.record]];
      const double before = stored(record);
      record.live[hidden.unit] = false;
      --record.live_count;
      file.live_bytes += stored(record) - before;
      ++file.deaths;
      file.hidden_at +=
          (static_cast<double>(hidden.at) - file.hidden_at) / static_cast<double>(file.deaths);
    }
    while (!young_.empty() && young_.front().end <= window) young_.pop_front();
  }

  void collect() {
    peak_ = std::max(peak_, held_);
    const CollectionLimits limits{.target_bytes = static_cast<uint64_t>(within() * options_.target),
                                  .output_bytes = options_.segment_bytes,
                                  .outputs = options_.outputs,
                                  .order = options_.order};
    for (int rounds = 0; rounds < 100; ++rounds) {
      std::vector<FileUse> uses;
      std::vector<size_t> index;
      for (size_t i = 0; i < files_.size(); ++i) {
        const File& file = files_[i];
        // What lies in the window stays as it was written.
        if (!file.closed || file.bytes == 0 ||
            (!young_.empty() && i >= young_.front().file && is_young(i))) {
          continue;
        }
        uses.push_back({.file = i,
                        .bytes = static_cast<uint64_t>(file.bytes),
                        .live_bytes = static_cast<uint64_t>(file.live_bytes),
                        .hidden_at = static_cast<uint64_t>(file.hidden_at)});
        index.push_back(i);
      }
      const std::vector<size_t> victims =
          choose_victims(uses, static_cast<uint64_t>(held_), static_cast<uint64_t>(guest_), limits);
      if (victims.empty()) {
        stuck_ = stuck_ || held_ > static_cast<double>(limits.target_bytes);
        return;
      }
      move(victims, index);
    }
  }
  bool is_young(size_t file) const {
    return std::ranges::any_of(young_, [&](const Young& young) { return young.file == file; });
  }

  void move(const std::vector<size_t>& victims, const std::vector<size_t>& index) {
    std::vector<uint32_t> survivors;
    double freed = 0;
    for (size_t victim : victims) {
      File& file = files_[index[victim]];
      for (uint32_t record : file.records) {
        if (records_[record].live_count > 0) survivors.push_back(record);
      }
      freed += file.bytes;
      file = {};
    }
    std::ranges::sort(survivors, {}, [&](uint32_t id) { return records_[id].block; });
    File* output = nullptr;
    double written = 0;
    for (uint32_t id : survivors) {
      if (output == nullptr || output->bytes >= static_cast<double>(options_.segment_bytes)) {
        files_.emplace_back();
        output = &files_.back();
        output->closed = true;
        output->hidden_at = guest_;
      }
      const double bytes = stored(records_[id]);
      output->records.push_back(id);
      output->bytes += bytes;
      output->live_bytes += bytes;
      file_of_[id] = static_cast<uint32_t>(files_.size() - 1);
      written += bytes;
    }
    device_ += written + static_cast<double>(survivors.size()) * kLocatorEntry * 3;
    peak_ = std::max(peak_, held_ + written);  // until the switch both are there
    held_ += written - freed;
  }

  struct Owner {
    uint32_t record = 0;
    bool known = false;
  };
  struct Young {
    uint64_t end = 0;
    size_t file = 0;
  };

  const ModelOptions options_;
  sim::SimRng rng_;
  std::vector<Owner> owner_;
  std::vector<Record> records_;
  std::vector<uint32_t> file_of_;
  std::deque<File> files_;
  File* open_ = nullptr;
  size_t open_index_ = 0;
  std::deque<Hidden> hidden_;
  std::deque<Young> young_;  // closed segments that the window reaches into
  uint64_t ordinal_ = 0;
  uint64_t found_until_ = 0;
  double guest_ = 0;
  double device_ = 0;
  double held_ = 0;
  double peak_ = 0;
  bool stuck_ = false;
};

}  // namespace hf::journal
