// RecordLog: group commit and time.
#include <algorithm>
#include <utility>

#include "journal/log/record_log.h"

namespace hf::journal {

namespace {
// A full disk is asked again so often whether the next segment can be prepared.
constexpr uint64_t kPrepareRetryUs = 1'000'000;
}  // namespace

bool RecordLog::sync_wanted() const {
  if (unsynced_.empty() || opening_) return false;
  if (quiescing_) return true;
  if (unsynced_bytes_ >= options_.auto_sync_bytes) return true;
  if (unsynced_since_ != kNever &&
      clock_.monotonic().value >= unsynced_since_.value + options_.auto_sync_us) {
    return true;
  }
  // A record that is not appended yet can't be covered; its sync is issued when it is.
  const Sequence appended = appended_.end.position.sequence;
  const Sequence durable = durable_.end.position.sequence;
  return std::ranges::any_of(durable_acks_, [&](const PendingAck& ack) {
    return ack.sequence > durable && ack.sequence <= appended;
  });
}

void RecordLog::start_sync() {
  if (failed_ || sync_in_flight_ || sync_pretended_ || !sync_wanted()) return;
  sync_covers_ = unsynced_.front();
  if (unsynced_.size() == 1) {
    unsynced_bytes_ = 0;
    unsynced_since_ = kNever;
  }
  if (options_.faults.sync_skipped) {
    sync_pretended_ = true;  // reported from tick()
    return;
  }
  sync_in_flight_ = true;
  storage_.sync(sync_covers_.file, sync_done_);
}

void RecordLog::on_synced(Status status) {
  HF_ASSERT(sync_in_flight_ || sync_pretended_);
  sync_in_flight_ = false;
  sync_pretended_ = false;
  if (!status.ok()) note_failed_sync();
  if (failed_) return;
  if (!status.ok()) return fail(std::move(status).error().context("sync the journal"));
  HF_ASSERT(!unsynced_.empty() && unsynced_.front().segment == sync_covers_.segment);
  // A file leaves the list when nothing was written to it after the sync was issued. An open one
  // comes back with its next write.
  if (unsynced_.front().writes == sync_covers_.writes) {
    if (sync_covers_.finished) note_segment_synced(sync_covers_.segment);
    unsynced_.pop_front();
  }
  reached_durable(sync_covers_.reach);
  start_sync();
  finish_quiesce();
  deliver_durable();
}

void RecordLog::note_segment_synced(uint64_t number) {
  for (auto segment = closed_.rbegin(); segment != closed_.rend(); ++segment) {
    if (segment->number == number) segment->synced = true;
  }
}

void RecordLog::quiesce(Completion& done) {
  HF_ASSERT(!quiescing_);
  quiescing_ = true;
  if (failed_) return complete_later(done, *failed_);
  quiesce_done_ = &done;
  start_sync();
  finish_quiesce();
}

void RecordLog::finish_quiesce() {
  if (quiesce_done_ == nullptr || failed_) return;
  if (!staging_.empty() || !unsynced_.empty() || prepare_in_flight_) return;
  if (!quiesce_generation_) {
    if (preparing_) abandon_preparation();
    quiesce_generation_ = want_manifest();
  } else if (!manifest_writer_.busy() && manifest_.generation >= *quiesce_generation_) {
    complete_later(*std::exchange(quiesce_done_, nullptr), {});
  }
}

void RecordLog::reached_durable(const Reach& reach) {
  HF_ASSERT(reach.end.position.sequence <= appended_.end.position.sequence);
  if (reach.end.position.sequence > durable_.end.position.sequence) durable_ = reach;
  while (!first_times_.empty() && first_times_.front().last <= durable_.end.position.sequence) {
    first_times_.pop_front();
  }
}

void RecordLog::deliver_durable() {
  // Those told may ask again, which appends to the list: look from the start each time.
  const auto reached = [&](const PendingAck& ack) {
    return ack.sequence <= durable_.end.position.sequence;
  };
  while (true) {
    auto found = std::ranges::find_if(durable_acks_, reached);
    if (found == durable_acks_.end()) return;
    Completion* done = found->done;
    durable_acks_.erase(found);
    done->on_complete({});
  }
}

void RecordLog::deliver_later() {
  // Only those there now: what they add waits for the next turn.
  for (size_t count = later_.size(); count > 0; --count) {
    Later later = later_.pop_front();
    later.done->on_complete(std::move(later.status));
  }
}

void RecordLog::tick() {
  if (sync_pretended_) on_synced({});
  start_sync();
  prepare_step();
  deliver_later();
}

Micros RecordLog::next_deadline() const {
  if (!later_.empty() || sync_pretended_) return Micros(0);
  if (failed_) return kNever;
  Micros next = kNever;
  if (unsynced_since_ != kNever && !sync_in_flight_) {
    next = Micros(unsynced_since_.value + options_.auto_sync_us);
  }
  if (options_.prepare_next && prepared_.empty() && !prepare_in_flight_ && !quiescing_) {
    next = std::min(next, prepare_retry_at_);
  }
  return next;
}

void RecordLog::prepare_step() {
  if (failed_ || !options_.prepare_next || !prepared_.empty() || prepare_in_flight_) return;
  if (quiescing_ || opening_) return;
  if (clock_.monotonic() < prepare_retry_at_) return;
  if (prepare_ == Prepare::kIdle) return begin_preparation();
  HF_ASSERT(preparing_.has_value());
  prepare_in_flight_ = true;
  if (prepare_ == Prepare::kZeroing) {
    const uint64_t left = options_.segment_bytes - prepared_bytes_;
    const size_t step = static_cast<size_t>(std::min<uint64_t>(left, zeroes_.size()));
    storage_.write(preparing_->file, prepared_bytes_, ByteSpan(zeroes_).first(step), prepare_done_);
  } else {
    HF_ASSERT(prepare_ == Prepare::kSyncing);
    storage_.sync(preparing_->file, prepare_done_);
  }
}

void RecordLog::begin_preparation() {
  prepare_in_flight_ = true;
  if (!spare_.empty()) {
    // A recycled file was written once already: only its name and its place in MANIFEST are new.
    preparing_ = std::move(spare_.back());
    spare_.pop_back();
    const std::string old_name = preparing_->name();
    preparing_->number = manifest_.next_file_number++;
    prepare_ = Prepare::kRenaming;
    return storage_.move(old_name, preparing_->name(), prepare_done_);
  }
  preparing_ = Segment{.number = manifest_.next_file_number++, .closed = {}};
  prepared_bytes_ = 0;
  zeroes_.resize(options_.prepare_step_bytes);
  prepare_ = Prepare::kCreating;
  preparing_->file = storage_.create(preparing_->name(), prepare_done_);
}

void RecordLog::on_prepare_step(Status status) {
  HF_ASSERT(prepare_in_flight_ && preparing_.has_value());
  prepare_in_flight_ = false;
  if (failed_) return;
  if (quiescing_) return finish_quiesce();
  if (!status.ok()) return abandon_preparation();
  switch (prepare_) {
    case Prepare::kIdle:
      HF_ASSERT(false);
    case Prepare::kCreating:
      prepare_ = Prepare::kZeroing;
      return prepare_step();
    case Prepare::kZeroing:
      prepared_bytes_ =
          std::min<uint64_t>(prepared_bytes_ + zeroes_.size(), options_.segment_bytes);
      if (prepared_bytes_ == options_.segment_bytes) prepare_ = Prepare::kSyncing;
      return prepare_step();
    case Prepare::kRenaming:
    case Prepare::kSyncing:
      break;
  }
  prepare_ = Prepare::kIdle;
  preparing_->listed = false;
  prepared_.push_back(std::move(*preparing_));
  preparing_.reset();
  want_manifest();
}

// The disk is full or failing. Nothing of the journal depends on this file yet: try again later.
void RecordLog::abandon_preparation() {
  if (preparing_) {
    static_cast<void>(storage_.close(preparing_->file).ok());
    unlink(preparing_->name());
    preparing_.reset();
  }
  prepare_ = Prepare::kIdle;
  prepare_retry_at_ = Micros(clock_.monotonic().value + kPrepareRetryUs);
}

}  // namespace hf::journal
