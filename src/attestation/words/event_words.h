// Events in words a person can act on. All text is safe to print on a terminal.
#pragma once

#include <string>
#include <string_view>

#include "attestation/log/event_log.h"

namespace hf::attestation {

struct EventWords {
  std::string title;   // what kind of event it is: "Secure Boot variable db"
  std::string detail;  // what it says; may be empty
  // Every word of the detail repeats proven bytes. Where false, part of it is only the log's word:
  // a path, a label, a name.
  bool proven = false;
};
EventWords describe(const Event& event);

// What a PCR is for (PFP 1.05 §3.3.4; UAPI.7 for 8 to 15): "firmware code". Empty if there is no
// rule.
std::string_view pcr_purpose(uint32_t pcr);

}  // namespace hf::attestation
