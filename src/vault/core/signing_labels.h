// What a site's Ed25519 key signs, and under which label each. A signature is over label ‖ body,
// and no label begins another: so two messages of different kinds differ within the labels, and no
// signature can be shown as one of another kind, whatever the bodies hold.
#pragma once

#include <array>
#include <string_view>

#include "base/bytes.h"
#include "title/signing.h"

namespace hf::vault {

inline constexpr std::string_view kWrapLabel = "holdfast key wrap v1";
inline constexpr std::string_view kCertificateLabel = "holdfast journal certificate v1";
inline constexpr std::string_view kSessionLabel = "holdfast session statement v1";

// A label that is signed under stands here, or it is not compared with the others.
inline constexpr std::array kSigningLabels = {kWrapLabel, kCertificateLabel, kSessionLabel,
                                              title::kStatementLabel, title::kAnswerLabel};

consteval bool no_label_begins_another() {
  for (size_t i = 0; i < kSigningLabels.size(); ++i) {
    for (size_t k = 0; k < kSigningLabels.size(); ++k) {
      if (i != k && kSigningLabels[k].starts_with(kSigningLabels[i])) return false;
    }
  }
  return true;
}
static_assert(no_label_begins_another());

inline Bytes labelled(std::string_view label, ByteSpan body) {
  const ByteSpan first = as_bytes(label);
  Bytes message(first.begin(), first.end());
  message.insert(message.end(), body.begin(), body.end());
  return message;
}

}  // namespace hf::vault
