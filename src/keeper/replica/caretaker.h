// Mode `caretaker`: a keeper without a key for a stopped VM at home. It opens the journal as it is
// and ships what the peer lacks of it; it appends nothing and merges nothing away. It ends in order
// when the peer has all of it.
//
// One thread, one loop, as a serving keeper's; nothing wakes it while nothing is to be shipped.
#pragma once

#include <memory>

#include "journal/sealed.h"
#include "keeper/service/control.h"
#include "keeper/ship/shipper.h"
#include "keeper_protocol/config.h"
#include "sys/inherited_fds.h"
#include "sys/turn_driver.h"
#include "sys/uring_storage.h"

namespace hf::keeper {

class Caretaker final : private ControlHandler, private sys::Timer {
 public:
  explicit Caretaker(const keeper_protocol::CaretakerConfig& config) : config_(config) {}
  ~Caretaker();

  Status start(sys::InheritedFds& fds);
  Status run_until_stopped();

 private:
  class Turn final : public sys::Task {
   public:
    explicit Turn(Caretaker& owner) : owner_(owner) {}
    void run() override { owner_.shipper_->turn(); }

   private:
    Caretaker& owner_;
  };
  void handle(keeper_protocol::Question question, ControlReply reply) override;
  void on_timer() override {}  // it only ends the loop's wait
  void show_level();
  Status stop();
  keeper_protocol::CaretakerStatus status() const;

  const keeper_protocol::CaretakerConfig& config_;
  sys::SystemClock clock_;
  sys::UniqueFd lock_;
  std::unique_ptr<sys::Reactor> reactor_;
  std::unique_ptr<sys::UringStorage> storage_;
  std::unique_ptr<journal::SealedJournal> journal_;
  std::unique_ptr<sys::TurnDriver<journal::SealedJournal>> driver_;
  std::unique_ptr<Shipper> shipper_;
  std::unique_ptr<ControlServer> control_;
  Turn turn_{*this};
  bool stop_requested_ = false;
};

}  // namespace hf::keeper
