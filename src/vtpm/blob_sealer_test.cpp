#include "vtpm/blob_sealer.h"

#include <gtest/gtest.h>

namespace hf::vtpm {
namespace {

crypto::Secret key(uint8_t fill) { return crypto::Secret::copy_of(Bytes(32, std::byte{fill})); }
VmId vm(uint8_t fill) {
  VmId id;
  id.bytes.fill(std::byte{fill});
  return id;
}
const Bytes kState(100, std::byte{0x5A});

TEST(BlobSealer, opens_what_the_same_vm_sealed) {
  crypto::SystemRng rng;
  GspBlobSealer source(key(1), vm(1), rng);
  GspBlobSealer target(key(1), vm(1), rng);
  const Bytes sealed = source.seal(StateType::kPermanent, kState);
  EXPECT_EQ(sealed.size(), kState.size() + kMigrationBlobOverhead);
  EXPECT_EQ(target.open(StateType::kPermanent, sealed).value(), kState);
  EXPECT_NE(source.seal(StateType::kPermanent, kState), sealed) << "a nonce of its own each time";
}

TEST(BlobSealer, refuses_another_key_vm_or_type) {
  crypto::SystemRng rng;
  GspBlobSealer source(key(1), vm(1), rng);
  const Bytes sealed = source.seal(StateType::kPermanent, kState);
  GspBlobSealer other_key(key(2), vm(1), rng);
  GspBlobSealer other_vm(key(1), vm(2), rng);
  EXPECT_EQ(other_key.open(StateType::kPermanent, sealed).error().code, ErrorCode::kWrongKey);
  EXPECT_EQ(other_vm.open(StateType::kPermanent, sealed).error().code, ErrorCode::kWrongKey);
  EXPECT_EQ(source.open(StateType::kVolatile, sealed).error().code, ErrorCode::kWrongKey);
}

TEST(BlobSealer, refuses_any_flipped_bit_and_any_truncation) {
  crypto::SystemRng rng;
  GspBlobSealer sealer(key(1), vm(1), rng);
  Bytes sealed = sealer.seal(StateType::kVolatile, kState);
  for (size_t at = 0; at < sealed.size(); ++at) {
    sealed[at] ^= std::byte{4};
    EXPECT_FALSE(sealer.open(StateType::kVolatile, sealed).ok()) << at;
    sealed[at] ^= std::byte{4};
    EXPECT_FALSE(sealer.open(StateType::kVolatile, ByteSpan(sealed).first(at)).ok()) << at;
  }
}

}  // namespace
}  // namespace hf::vtpm
