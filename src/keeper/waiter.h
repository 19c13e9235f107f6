// A completion that somebody turns the loop for.
#pragma once

#include <utility>

#include "base/storage.h"

namespace hf::keeper {

class Waiter final : public Completion {
 public:
  void on_complete(Status status) override {
    done = true;
    result = std::move(status);
  }
  bool done = false;
  Status result;
};

}  // namespace hf::keeper
