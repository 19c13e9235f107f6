#include "journal/seal/keys.h"

#include <utility>

namespace hf::journal {

namespace {
constexpr std::string_view kRecordLabel = "holdfast journal record v1";
constexpr std::string_view kBaseLabel = "holdfast base run v1";
constexpr std::string_view kSigningLabel = "holdfast journal signing v1";

std::string with_number(std::string info, uint32_t number) {
  std::array<std::byte, 4> bytes{};
  store_le(bytes.data(), number);
  info += as_text(bytes);
  return info;
}
}  // namespace

JournalKeys::JournalKeys(crypto::Secret gsp, const VmId& vm, KeyVersion version,
                         crypto::SigningKey signing)
    : gsp_(std::move(gsp)), vm_(vm), version_(version), signing_(std::move(signing)) {}

JournalKeys JournalKeys::derive(const crypto::Secret& gsp, const VmId& vm, KeyVersion version) {
  HF_ASSERT(gsp.size() == crypto::kKeySize);
  HF_ASSERT(!vm.is_zero());
  const crypto::Secret seed =
      crypto::hkdf_sha256(gsp.span(), vm.span(),
                          with_number(std::string(kSigningLabel), version.value), crypto::kKeySize);
  return {gsp.clone(), vm, version, crypto::SigningKey(seed)};
}

crypto::Aead JournalKeys::aead(std::string_view label, ByteSpan salt) const {
  HF_ASSERT(salt.size() == 32);
  std::string info(label);
  info += as_text(vm_.span());
  return crypto::Aead(crypto::hkdf_sha256(
      gsp_.span(), salt, with_number(std::move(info), version_.value), crypto::kKeySize));
}

crypto::Aead JournalKeys::record_aead(const IncarnationId& incarnation) const {
  HF_ASSERT(!incarnation.is_zero());
  return aead(kRecordLabel, incarnation.span());
}

crypto::Aead JournalKeys::base_aead(ByteSpan salt) const { return aead(kBaseLabel, salt); }

}  // namespace hf::journal
