#include "daemon/replica_in.h"

#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "daemon/forward_clock.h"
#include "daemon/log.h"
#include "sys/directory.h"
#include "sys/system_clock.h"

namespace hf::daemon {

using namespace std::chrono_literals;

namespace {

// What was verified record by record when it came in need not all be read again at each connection.
constexpr uint64_t kVerifyAtOpen = uint64_t{64} << 20;

journal::ReplicaOptions replica_options(VmId vm, const crypto::PublicKey& key) {
  journal::ReplicaOptions options{.vm = vm, .public_key = key};
  options.log.verify_bytes_max = kVerifyAtOpen;
  return options;
}

Result<crypto::PublicKey> parse_key(std::string_view hex) {
  Bytes raw = TRY(from_hex(hex));
  crypto::PublicKey key{};
  if (raw.size() != key.size())
    return Error{.code = ErrorCode::kCorrupt, .cause = "a journal key of the wrong length"};
  std::memcpy(key.data(), raw.data(), raw.size());
  return key;
}

void refuse(TlsStream& tls, VmId vm, replication::Refusal refusal, Epoch epoch, std::string cause) {
  replication::ErrorFrame frame{.refusal = refusal,
                                .epoch = epoch,
                                .cause = std::move(cause),
                                .effect = "nothing was received",
                                .mend = "holdfast vm show at both sites"};
  static_cast<void>(tls.write_all(replication::encode(vm, frame), 2s));
}

// The source shows it to whoever asks there why the replica falls behind. Returns it.
Error refuse_for_disk(TlsStream& tls, VmId vm, Epoch epoch, Error error) {
  if (error.effect.empty()) error.effect = "the replica takes nothing and falls behind";
  if (error.mend.empty()) {
    error.mend = error.code == ErrorCode::kNoSpace
                     ? "free space on the replica's site; it then goes on by itself"
                     : "look at the replica's site: holdfast protection show there";
  }
  replication::ErrorFrame frame{.refusal = replication::Refusal::kStorage,
                                .epoch = epoch,
                                .cause = error.cause,
                                .effect = error.effect,
                                .mend = error.mend};
  static_cast<void>(tls.write_all(replication::encode(vm, frame), 2s));
  return error;
}

}  // namespace

Status create_replica(const Services& services, VmId vm, const crypto::PublicKey& journal_key) {
  std::string dir = services.paths.replica(vm);
  if (::mkdir(dir.c_str(), 0700) != 0) return errno_error(errno, "make " + dir);
  auto storage = TRY(sys::PosixStorage::open_directory(dir));
  sys::SystemClock clock;
  TRY(journal::ReplicaJournal::create(*storage, clock, replica_options(vm, journal_key)));
  storage->drain();
  return {};
}

Status check_replica(const Services& services, VmId vm, const ProtectionRow& protection) {
  std::string dir = services.paths.replica(vm);
  crypto::PublicKey key = TRY(parse_key(protection.journal_public_key));
  auto storage = TRY(sys::PosixStorage::open_directory(dir));
  sys::SystemClock clock;
  auto opened = journal::ReplicaJournal::open(*storage, clock, replica_options(vm, key));
  Status status;
  if (opened.ok()) {
    opened->reset();
  } else {
    // What the journal says of mending is about a home site's journal; whoever asked for a failover
    // has only this one.
    Error error = std::move(opened).error().context("the replica " + dir);
    error.effect = "the VM was not taken over: it is still the source's";
    error.mend =
        "put the file back from a copy and fail over again; while the source lives, protect the VM "
        "anew there: "
        "holdfast protection disable, then enable";
    status = std::move(error);
  }
  storage->drain();
  return status;
}

bool ReplicaDesk::take_seat(VmId vm, uint64_t& number) {
  std::unique_lock lock(mutex_);
  Seat& seat = seats_[vm];
  if (seat.closed) return false;
  number = ++seat.newest;
  changed_.notify_all();
  bool free = changed_.wait_for(lock, 10s,
                                [&] { return stopping_ || !seat.busy || seat.newest != number; });
  if (!free || stopping_ || seat.newest != number || seat.closed) return false;
  seat.busy = true;
  seat.view.connected = true;
  return true;
}

void ReplicaDesk::leave_seat(VmId vm) {
  std::lock_guard lock(mutex_);
  seats_[vm].busy = false;
  seats_[vm].view.connected = false;
  changed_.notify_all();
}

bool ReplicaDesk::may_go_on(VmId vm, uint64_t number) {
  std::lock_guard lock(mutex_);
  const Seat& seat = seats_[vm];
  return !stopping_ && !seat.closed && seat.newest == number;
}

Status ReplicaDesk::close(VmId vm, std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  Seat& seat = seats_[vm];
  seat.closed = true;
  changed_.notify_all();
  if (changed_.wait_for(lock, limit, [&] { return !seat.busy; })) return {};
  seat.closed = false;
  return Error{.code = ErrorCode::kTimeout, .cause = "the replica is still being written"};
}

void ReplicaDesk::reopen(VmId vm) {
  std::lock_guard lock(mutex_);
  seats_[vm].closed = false;
}

ReplicaView ReplicaDesk::view(VmId vm) {
  std::lock_guard lock(mutex_);
  return seats_[vm].view;
}

void ReplicaDesk::stop() {
  stopping_ = true;
  changed_.notify_all();
}

void ReplicaDesk::serve(VmId vm, const PeerRow& peer, TlsStream& tls,
                        replication::FrameReader& reader, const replication::Frame& hello) {
  Result<VmRow> row = services_.catalog->vm(vm);
  if (!row.ok()) return refuse(tls, vm, replication::Refusal::kUnknownVm, {}, row.error().cause);
  Result<ProtectionRow> protection = services_.catalog->protection(vm);
  bool ours =
      protection.ok() && protection->direction == Direction::kIn && protection->peer == peer.site;
  if (!ours || row->role != VmRole::kStandby) {
    Result<replication::Hello> said = replication::decode_hello(hello.body);
    bool stale = said.ok() && said->epoch < row->epoch;
    return refuse(
        tls, vm, stale ? replication::Refusal::kStaleEpoch : replication::Refusal::kNotReplica,
        row->epoch,
        "this site is not a replica of the VM: it has it under epoch " +
            std::to_string(row->epoch.value) + " as " + std::string(to_string(row->role)));
  }
  uint64_t number = 0;
  if (!take_seat(vm, number)) {
    return refuse(tls, vm, replication::Refusal::kBusy, row->epoch,
                  "another connection carries the VM");
  }
  Status ended = receive(vm, number, *protection, row->epoch, tls, reader, hello);
  if (!ended.ok()) {
    log_warning("replica of " + row->name + ": " + ended.error().describe());
    std::lock_guard lock(mutex_);
    seats_[vm].view.error = ended.error();
  }
  leave_seat(vm);
}

namespace {

// The journal and its receiver are state machines over a storage that answers when drained.
struct Machine {
  sys::SystemClock clock;
  ForwardClock forward{clock};
  std::unique_ptr<sys::PosixStorage> storage;
  std::unique_ptr<journal::ReplicaJournal> journal;
  std::unique_ptr<replication::Receiver> receiver;

  // Lets all go on as far as it can; then sends what is to be sent.
  Status turn(TlsStream& tls) {
    do {
      storage->drain();
      journal->tick();
      receiver->tick(forward.now());
      for (replication::Effect& effect : receiver->take_effects()) {
        if (auto* send = std::get_if<replication::SendFrame>(&effect))
          TRY(tls.write_all(send->frame, 30s));
        if (auto* end = std::get_if<replication::Disconnect>(&effect)) return end->reason;
      }
    } while (!storage->idle());
    if (journal->failed() != nullptr) return *journal->failed();
    return {};
  }

  // Nothing may be under way when the journal goes.
  void settle() {
    for (int i = 0; i < 1000 && journal != nullptr && !(journal->idle() && storage->idle()); ++i) {
      storage->drain();
      if (journal->failed() == nullptr) journal->tick();
    }
    receiver.reset();
    journal.reset();
    storage->drain();
  }
};

}  // namespace

Status ReplicaDesk::receive(VmId vm, uint64_t number, const ProtectionRow& protection, Epoch epoch,
                            TlsStream& tls, replication::FrameReader& reader,
                            const replication::Frame& hello) {
  crypto::PublicKey key = TRY(parse_key(protection.journal_public_key));
  Machine machine;
  machine.storage = TRY(sys::PosixStorage::open_directory(services_.paths.replica(vm)));
  auto opened =
      journal::ReplicaJournal::open(*machine.storage, machine.clock, replica_options(vm, key));
  if (!opened.ok()) return refuse_for_disk(tls, vm, epoch, std::move(opened).error());
  machine.journal = *std::move(opened);
  machine.receiver = std::make_unique<replication::Receiver>(
      replication::ReceiverOptions{
          .vm = vm, .site = services_.site.site_id, .epoch = epoch, .public_key = key},
      *machine.journal);
  machine.receiver->connected(machine.forward.now());
  machine.receiver->received(hello, machine.forward.now());
  Bytes buffer(size_t{256} << 10);
  auto go_on = [&]() -> Status {
    while (may_go_on(vm, number)) {
      TRY(machine.turn(tls));
      {
        std::lock_guard lock(mutex_);
        ReplicaView& view = seats_[vm].view;
        view.durable = machine.journal->durable_end();
        view.durable_time = machine.journal->durable_time();
        view.home_durable = machine.receiver->home_durable();
        view.error.reset();
      }
      // The receiver may have learned a higher epoch from the hello: it is kept before it counts.
      if (machine.receiver->epoch() > epoch) {
        epoch = machine.receiver->epoch();
        TRY(services_.catalog->set_role(vm, VmRole::kStandby, epoch, ""));
      }
      Result<size_t> got = tls.read_some(buffer, 20ms);
      if (!got.ok() && got.error().code == ErrorCode::kTimeout) continue;
      if (!got.ok()) return got.error();
      if (*got == 0) return {};
      reader.push(ByteSpan(buffer).first(*got));
      while (std::optional<replication::Frame> frame = TRY(reader.next())) {
        machine.receiver->received(*frame, machine.forward.now());
        TRY(machine.turn(tls));
      }
    }
    return {};
  };
  Status ended = go_on();
  if (machine.journal->replaced()) {
    // The source connects again, and finds what it was seeded with.
    log_info("replica " + vm.hex() + ": seeded");
    ended = {};
  }
  machine.receiver->disconnected();
  machine.settle();
  return ended;
}

}  // namespace hf::daemon
