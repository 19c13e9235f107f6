#include "keeper/replica/caretaker.h"

#include <malloc.h>
#include <unistd.h>

#include "journal/format/format.h"
#include "keeper/directory_lock.h"
#include "keeper/sandbox.h"

namespace hf::keeper {
namespace {

constexpr uint64_t kStopGraceUs = 10'000'000;
constexpr size_t kStagingBytes = journal::kRecordSizeMax + (size_t{128} << 10);

}  // namespace

Caretaker::~Caretaker() {
  if (reactor_ == nullptr) return;
  reactor_->end_turns(turn_);
  reactor_->disarm(*this);
}

Status Caretaker::start(sys::InheritedFds& fds) {
  ::mallopt(M_ARENA_MAX, 1);  // a thread of a moment leaves no heap of its own behind
  lock_ = TRY(lock_directory(config_.journal_dir));
  reactor_ = TRY(sys::Reactor::create());
  storage_ = TRY(sys::UringStorage::open_directory(*reactor_, config_.journal_dir));
  journal::ReplicaOptions options{.vm = config_.vm, .public_key = config_.public_key};
  options.log.staging_bytes = kStagingBytes;
  journal_ = TRY_CONTEXT(journal::SealedJournal::open(*storage_, clock_, options),
                         "open the stopped VM's journal " + config_.journal_dir);
  TRY_CONTEXT(confine_to_directories({config_.journal_dir}), "give up other files");
  shipper_ = std::make_unique<Shipper>(*reactor_, clock_, TRY(fds.take("ship")), *journal_,
                                       ShipperOptions{.vm = config_.vm,
                                                      .site = config_.site,
                                                      .epoch = config_.epoch,
                                                      .public_key = config_.public_key,
                                                      .vault_socket = config_.vault_socket});
  shipper_->set_peer(config_.peer_site);
  control_ = std::make_unique<ControlServer>(*reactor_, TRY(fds.take("control")),
                                             static_cast<ControlHandler&>(*this));
  reactor_->each_turn(turn_);
  driver_ = std::make_unique<sys::TurnDriver<journal::SealedJournal>>(*journal_, *reactor_);
  shipper_->start();
  control_->start();
  TRY_CONTEXT(confine_to_serving(), "give up system calls");
  return {};
}

Status Caretaker::run_until_stopped() {
  reactor_->run_until([this] { return stop_requested_ || shipper_->level(); });
  if (shipper_->level()) show_level();
  return stop();
}

// Both sites have all of it: what a hand-over begins with. A vault that is away is shown it by the
// next one.
void Caretaker::show_level() {
  const journal::LineEnd end = journal_->durable_end();
  bool done = false;
  shipper_->show_line(end, [&](Result<sys::JsonObject> shown) {
    if (!shown.ok())
      std::fputs(("holdfast-keeper: " + shown.error().describe() + "\n").c_str(), stderr);
    done = true;
  });
  reactor_->run_until([&] { return done; });
}

void Caretaker::handle(keeper_protocol::Question question, ControlReply reply) {
  if (std::holds_alternative<keeper_protocol::GetStatus>(question)) {
    return reply(encode_reply(keeper_protocol::AnyStatus(status())));
  }
  if (const auto* drain = std::get_if<keeper_protocol::Drain>(&question)) {
    return shipper_->drain(drain->limit_ms, std::move(reply));
  }
  if (std::holds_alternative<keeper_protocol::Stop>(question)) {
    stop_requested_ = true;
    return reply(sys::JsonObject{});
  }
  reply(not_in_this_mode(question, config_.kOp));
}

keeper_protocol::CaretakerStatus Caretaker::status() const {
  return {.pid = ::getpid(),
          .epoch = journal_->epoch(),
          .durable = keeper_protocol::End::of(journal_->durable_end()),
          .shipping = shipper_->status()};
}

Status Caretaker::stop() {
  shipper_->stop();
  reactor_->run_once(Micros(0));  // the answer to the stop itself goes out
  control_->stop();
  const Micros patience(reactor_->now().value + kStopGraceUs);
  reactor_->arm(*this, patience);
  reactor_->run_until([&] {
    return (shipper_->stopped() && control_->stopped() && journal_->idle() &&
            storage_->operations_in_flight() == 0) ||
           reactor_->now() >= patience;
  });
  if (reactor_->now() >= patience) {
    return Error{.code = ErrorCode::kTimeout, .cause = "a stop took too long; nothing is lost"};
  }
  return {};
}

}  // namespace hf::keeper
