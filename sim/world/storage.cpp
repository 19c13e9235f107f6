#include "sim/world/storage.h"

#include <algorithm>

#include "sim/world/inode.h"

namespace hf::sim {

namespace {

constexpr uint64_t kFileSizeMax = uint64_t{1} << 32;

Error gone() { return {.code = ErrorCode::kIo, .cause = "the simulated disk is gone"}; }
Error no_file(std::string_view name) {
  return {.code = ErrorCode::kNotFound, .cause = "no file " + std::string(name)};
}

}  // namespace

SimStorage::SimStorage(Scheduler& scheduler, SimRng rng, Options options)
    : scheduler_(scheduler), rng_(std::move(rng)), options_(options) {
  HF_ASSERT(options_.delay_us_min <= options_.delay_us_max);
  HF_ASSERT(options_.sync_us_min <= options_.sync_us_max);
}

SimStorage::~SimStorage() = default;

// ---- faults -------------------------------------------------------------------------------------

void SimStorage::kill_process() {
  settle_in_flight();
  handles_.clear();
  state_ = State::kDead;
  dies_at_.reset();
  on_death_ = {};
  failing_syncs_ = 0;
  failing_writes_ = 0;
  life_++;
}

void SimStorage::power_loss() {
  kill_process();
  // A journalling file system keeps a prefix of the changes; POSIX promises not even that.
  const bool prefix = rng_.chance(1, 2);
  const uint64_t kept = rng_.below(unsynced_names_.size() + 1);
  for (size_t i = 0; i < unsynced_names_.size(); i++) {
    if (prefix ? i < kept : rng_.chance(1, 2)) apply(durable_names_, unsynced_names_[i]);
  }
  name_changes_synced_ += unsynced_names_.size();
  unsynced_names_.clear();
  names_ = durable_names_;
  // An inode can stand under two names here (half of a rename cannot happen, two renames can);
  // each loses power once.
  std::vector<Inode*> inodes;
  for (const auto& [name, inode] : names_) {
    if (std::find(inodes.begin(), inodes.end(), inode.get()) == inodes.end()) {
      inodes.push_back(inode.get());
    }
  }
  for (Inode* inode : inodes) inode->lose_power(rng_);
}

void SimStorage::reopen() {
  HF_ASSERT(state_ == State::kDead);
  HF_ASSERT(handles_.empty() && in_flight_.empty());
  state_ = State::kRunning;
}

void SimStorage::die_after(uint64_t operations, std::function<void()> on_death) {
  dies_at_ = operations_ + operations;
  on_death_ = std::move(on_death);
}

void SimStorage::settle_in_flight() {
  for (auto& [id, write] : in_flight_) {
    const uint64_t outcome = rng_.below(3);
    if (outcome == 0) continue;
    ByteSpan part = write.bytes;
    if (outcome == 1) part = part.first(rng_.below(part.size() + 1));
    if (!check_space(*write.inode, write.offset + part.size()).ok()) continue;
    write.inode->write(write.offset, part);
  }
  in_flight_.clear();
  for (auto& [id, change] : changes_in_flight_) {
    if (rng_.chance(1, 2)) static_cast<void>(change().ok());
  }
  changes_in_flight_.clear();
}

Status SimStorage::count_operation() {
  operations_++;
  if (state_ == State::kRunning && dies_at_ && operations_ >= *dies_at_) {
    state_ = State::kFailing;
    if (on_death_) on_death_();
  }
  if (state_ != State::kRunning) return gone();
  return {};
}

// ---- inspection ---------------------------------------------------------------------------------

std::optional<Bytes> SimStorage::contents(std::string_view name) const {
  const auto found = names_.find(name);
  if (found == names_.end()) return std::nullopt;
  return found->second->cached();
}

void SimStorage::tamper(std::string_view name, uint64_t offset, ByteSpan bytes) {
  const auto found = names_.find(name);
  HF_ASSERT(found != names_.end());
  found->second->tamper(offset, bytes);
}

uint64_t SimStorage::used_bytes() const {
  uint64_t used = 0;
  for (const auto& [name, inode] : names_) used += inode->size();
  return used;
}

// ---- control path -------------------------------------------------------------------------------

Result<FileId> SimStorage::open(std::string_view name, OpenMode mode) {
  TRY(count_operation());
  const auto found = names_.find(name);
  InodePtr inode = found == names_.end() ? nullptr : found->second;
  if (mode == OpenMode::kCreate) inode = TRY(make(name));
  if (!inode) return no_file(name);
  const FileId id(next_file_++);
  handles_[id] = {.inode = std::move(inode), .writable = mode != OpenMode::kRead};
  return id;
}

Status SimStorage::close(FileId file) {
  TRY(count_operation());
  if (handles_.erase(file) == 0) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "no such file handle"};
  }
  return {};
}

Result<uint64_t> SimStorage::size(FileId file) {
  TRY(count_operation());
  const InodePtr inode = TRY(inode_of(file));
  return inode->size();
}

Status SimStorage::truncate(FileId file, uint64_t size) {
  TRY(count_operation());
  const InodePtr inode = TRY(writable_inode_of(file));
  TRY(check_space(*inode, size));
  inode->resize(size);
  return {};
}

Status SimStorage::remove(std::string_view name) {
  TRY(count_operation());
  return drop(name);
}

Status SimStorage::rename(std::string_view from, std::string_view to) {
  TRY(count_operation());
  return replace(from, to);
}

Result<std::vector<std::string>> SimStorage::list() {
  TRY(count_operation());
  std::vector<std::string> names;
  for (const auto& [name, inode] : names_) names.push_back(name);
  return names;
}

Status SimStorage::sync_directory() {
  TRY(count_operation());
  durable_names_ = names_;
  name_changes_synced_ += unsynced_names_.size();
  unsynced_names_.clear();
  return {};
}

Status SimStorage::read_now(FileId file, uint64_t offset, MutableByteSpan to) {
  TRY(count_operation());
  const InodePtr inode = TRY(inode_of(file));
  if (offset > inode->size() || inode->size() - offset < to.size()) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "the file ends before the bytes asked for"};
  }
  if (!to.empty()) std::memcpy(to.data(), inode->cached().data() + offset, to.size());
  return {};
}

Status SimStorage::write_now(FileId file, uint64_t offset, ByteSpan from) {
  TRY(count_operation());
  const InodePtr inode = TRY(writable_inode_of(file));
  TRY(check_space(*inode, offset + from.size()));
  if (failing_writes_ > 0) {
    failing_writes_--;
    return Error{.code = ErrorCode::kIo, .cause = "simulated write failure"};
  }
  inode->write(offset, from);
  return {};
}

Status SimStorage::sync_now(FileId file) {
  TRY(count_operation());
  const InodePtr inode = TRY(inode_of(file));
  const uint64_t stamp = inode->begin_sync();
  if (failing_syncs_ > 0) {
    failing_syncs_--;
    inode->fail_sync(stamp, rng_);
    return Error{.code = ErrorCode::kIo, .cause = "simulated sync failure"};
  }
  inode->end_sync(stamp);
  return {};
}

// ---- data path ----------------------------------------------------------------------------------

void SimStorage::read(FileId file, uint64_t offset, MutableByteSpan to, Completion& done) {
  complete_after(
      data_delay(), [this, file, offset, to] { return read_now(file, offset, to); }, done);
}

void SimStorage::write(FileId file, uint64_t offset, ByteSpan from, Completion& done) {
  const Status counted = count_operation();
  if (state_ != State::kRunning) return;
  Result<InodePtr> inode = writable_inode_of(file);
  HF_ASSERT(inode.ok());  // writing through a closed or read-only handle is a bug of the caller
  const uint64_t id = next_in_flight_++;
  in_flight_[id] = {.inode = *inode, .offset = offset, .bytes = Bytes(from.begin(), from.end())};
  complete_after(data_delay(), [this, id, from] { return finish_write(id, from); }, done);
}

Status SimStorage::finish_write(uint64_t id, ByteSpan original) {
  const auto found = in_flight_.find(id);
  HF_ASSERT(found != in_flight_.end());
  const InFlight write = std::move(found->second);
  in_flight_.erase(found);
  // The span has to stay as it was until now; a real disk would have written the mixture.
  HF_ASSERT(std::ranges::equal(original, write.bytes));
  TRY(check_space(*write.inode, write.offset + write.bytes.size()));
  if (failing_writes_ > 0) {
    failing_writes_--;
    return Error{.code = ErrorCode::kIo, .cause = "simulated write failure"};
  }
  write.inode->write(write.offset, write.bytes);
  return {};
}

void SimStorage::sync(FileId file, Completion& done) {
  const Status counted = count_operation();
  if (state_ != State::kRunning) return;
  Result<InodePtr> found = inode_of(file);
  HF_ASSERT(found.ok());
  const InodePtr inode = *found;
  const uint64_t stamp = inode->begin_sync();
  complete_after(
      rng_.between(options_.sync_us_min, options_.sync_us_max),
      [this, inode, stamp]() -> Status {
        if (failing_syncs_ > 0) {
          failing_syncs_--;
          inode->fail_sync(stamp, rng_);
          return Error{.code = ErrorCode::kIo, .cause = "simulated sync failure"};
        }
        inode->end_sync(stamp);
        return {};
      },
      done);
}

FileId SimStorage::create(std::string_view name, Completion& done) {
  const FileId id(next_file_++);
  const Status counted = count_operation();
  if (state_ != State::kRunning) return id;
  handles_[id] = {.inode = nullptr, .writable = true};
  change_later(
      [this, id, name = std::string(name)]() -> Status {
        InodePtr inode = TRY(make(name));
        // Closed meanwhile: the file is made all the same.
        if (const auto handle = handles_.find(id); handle != handles_.end()) {
          handle->second.inode = std::move(inode);
        }
        return {};
      },
      done);
  return id;
}

void SimStorage::unlink(std::string_view name, Completion& done) {
  const Status counted = count_operation();
  if (state_ != State::kRunning) return;
  change_later([this, name = std::string(name)] { return drop(name); }, done);
}

void SimStorage::move(std::string_view from, std::string_view to, Completion& done) {
  const Status counted = count_operation();
  if (state_ != State::kRunning) return;
  change_later([this, from = std::string(from), to = std::string(to)] { return replace(from, to); },
               done);
}

// Covers what had changed when it was issued, and may be done only later.
void SimStorage::sync_names(Completion& done) {
  const Status counted = count_operation();
  if (state_ != State::kRunning) return;
  const uint64_t covered = name_changes_synced_ + unsynced_names_.size();
  complete_after(
      rng_.between(options_.sync_us_min, options_.sync_us_max),
      [this, covered]() -> Status {
        if (failing_syncs_ > 0) {
          failing_syncs_--;
          return Error{.code = ErrorCode::kIo, .cause = "simulated sync failure"};
        }
        while (name_changes_synced_ < covered) {
          apply(durable_names_, unsynced_names_.front());
          unsynced_names_.erase(unsynced_names_.begin());
          name_changes_synced_++;
        }
        return {};
      },
      done);
}

void SimStorage::change_later(std::function<Status()> work, Completion& done) {
  const uint64_t id = next_in_flight_++;
  changes_in_flight_[id] = std::move(work);
  complete_after(
      data_delay(),
      [this, id] {
        const auto found = changes_in_flight_.find(id);
        HF_ASSERT(found != changes_in_flight_.end());
        const std::function<Status()> change = std::move(found->second);
        changes_in_flight_.erase(found);
        return change();
      },
      done);
}

void SimStorage::complete_after(uint64_t delay_us, std::function<Status()> work, Completion& done) {
  scheduler_.after(delay_us, [this, life = life_, work = std::move(work), to = &done] {
    if (life != life_ || state_ != State::kRunning) return;
    Status status = work();
    if (state_ == State::kRunning) to->on_complete(std::move(status));
  });
}

// ---- helpers ------------------------------------------------------------------------------------

Result<SimStorage::InodePtr> SimStorage::inode_of(FileId file) {
  const auto found = handles_.find(file);
  if (found == handles_.end()) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "no such file handle"};
  }
  if (found->second.inode == nullptr) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "the file is still being made"};
  }
  return found->second.inode;
}

Result<SimStorage::InodePtr> SimStorage::writable_inode_of(FileId file) {
  InodePtr inode = TRY(inode_of(file));
  if (!handles_.at(file).writable) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "the handle is for reading only"};
  }
  return inode;
}

Status SimStorage::check_space(const Inode& inode, uint64_t end) const {
  HF_ASSERT(end <= kFileSizeMax);
  if (end <= inode.size()) return {};
  if (options_.capacity_bytes == UINT64_MAX) return {};
  const uint64_t used = used_bytes();
  if (used + (end - inode.size()) > options_.capacity_bytes) {
    return Error{.code = ErrorCode::kNoSpace, .cause = "the simulated disk is full"};
  }
  return {};
}

Result<SimStorage::InodePtr> SimStorage::make(std::string_view name) {
  if (names_.contains(name)) {
    return Error{.code = ErrorCode::kExists, .cause = "file exists: " + std::string(name)};
  }
  InodePtr inode = std::make_shared<Inode>();
  change_names({{std::string(name), inode}});
  return inode;
}

Status SimStorage::drop(std::string_view name) {
  if (!names_.contains(name)) return no_file(name);
  change_names({{std::string(name), nullptr}});
  return {};
}

Status SimStorage::replace(std::string_view from, std::string_view to) {
  const auto found = names_.find(from);
  if (found == names_.end()) return no_file(from);
  if (from == to) return {};
  const InodePtr inode = found->second;
  change_names({{std::string(from), nullptr}, {std::string(to), inode}});
  return {};
}

void SimStorage::change_names(NameChange change) {
  apply(names_, change);
  unsynced_names_.push_back(std::move(change));
}

void SimStorage::apply(Directory& directory, const NameChange& change) {
  for (const auto& [name, inode] : change) {
    if (inode) {
      directory[name] = inode;
    } else {
      directory.erase(name);
    }
  }
}

}  // namespace hf::sim
