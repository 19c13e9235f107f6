// TurnDriver: gives a sans-I/O machine its time from an event loop, and nothing more.
//
// A Machine has tick() and next_deadline() (monotonic; UINT64_MAX: not before something happens to
// it). It is looked at in every turn of the loop, after whatever that turn did to it, and ticked
// when it is due; one timer ends the loop's wait at its deadline. So a machine with nothing to do
// wakes nobody.
//
// The loop's thread only. The machine outlives its driver.
#pragma once

#include "sys/scheduler.h"

namespace hf::sys {

template <typename Machine>
class TurnDriver final : private Task, private Timer {
 public:
  TurnDriver(Machine& machine, Scheduler& scheduler) : machine_(machine), scheduler_(scheduler) {
    scheduler_.each_turn(*this);
  }
  ~TurnDriver() {
    scheduler_.end_turns(*this);
    scheduler_.disarm(*this);
  }
  TurnDriver(const TurnDriver&) = delete;
  TurnDriver& operator=(const TurnDriver&) = delete;

 private:
  void on_timer() override {}  // it only ends the loop's wait: run() follows
  void run() override {
    Micros due = machine_.next_deadline();
    if (due <= scheduler_.now()) {
      machine_.tick();
      due = machine_.next_deadline();
    }
    if (due == kForever) {
      scheduler_.disarm(*this);
    } else if (due != armed_for_ || !armed()) {
      scheduler_.arm(*this, due);
    }
    armed_for_ = due;
  }

  Machine& machine_;
  Scheduler& scheduler_;
  Micros armed_for_{0};
};

}  // namespace hf::sys
