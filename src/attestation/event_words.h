// Events in words a person can act on.
#pragma once

#include <string>

#include "attestation/event_log.h"

namespace hf::attestation {

struct EventWords {
  std::string title;   // "Secure Boot variable db": what kind of event it is
  std::string detail;  // what it says; may be empty
  // False where title or detail repeat what no digest proves (a path, a label).
  bool proven = false;
};
EventWords describe(const Event& event);

}  // namespace hf::attestation
