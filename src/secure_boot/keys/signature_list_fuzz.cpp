// Hostile signature lists, authenticated updates and operator's files.
#include "base/fuzz_input.h"
#include "secure_boot/keys/authenticated_update.h"
#include "secure_boot/keys/certificate.h"
#include "secure_boot/keys/signed_data.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hf;
  const ByteSpan bytes = hf::fuzz_input(data, size);
  if (auto database = secure_boot::SignatureDatabase::parse(bytes); database.ok()) {
    const Bytes again = database->to_bytes();
    HF_ASSERT(std::ranges::equal(again, bytes));
    for (const auto& list : database->lists()) {
      for (const auto& signature : list.signatures) (void)describe(list, signature);
    }
    (void)check_firmware_takes(*database, false).ok();
    secure_boot::SignatureDatabase merged = *database;
    HF_ASSERT(merged.append(*database) == 0);
    (void)merged.remove(*database);
    HF_ASSERT(merged.empty());
  }
  if (auto update = secure_boot::parse_update(bytes); update.ok()) {
    HF_ASSERT(std::ranges::equal(to_bytes(*update), bytes));
    auto message = secure_boot::SignedData::parse(update->signed_data);
    if (message.ok()) {
      (void)message->signers_in_words();
      for (const Bytes& der : message->certificates()) (void)message->verify_detached(bytes, der);
    }
  }
  (void)secure_boot::certificates_in(bytes).ok();
  return 0;
}
