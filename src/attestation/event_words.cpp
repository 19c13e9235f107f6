#include "attestation/event_words.h"

#include "attestation/event_data.h"

namespace hf::attestation {

EventWords describe(const Event& event) {
  return {.title = name_of(event.type),
          .detail = printable(event.data, 120),
          .proven = event.cover.form == CoverForm::kWhole};
}

}  // namespace hf::attestation
