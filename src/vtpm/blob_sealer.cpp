#include "vtpm/blob_sealer.h"

namespace hf::vtpm {
namespace {

constexpr std::string_view kKeyLabel = "holdfast vtpm migration blob v1";

}  // namespace

GspBlobSealer::GspBlobSealer(const crypto::Secret& gsp_key, const VmId& vm, Rng& rng)
    : aead_(crypto::hkdf_sha256(gsp_key.span(), vm.span(), kKeyLabel, crypto::kKeySize)),
      vm_(vm),
      rng_(rng) {}

Bytes GspBlobSealer::seal(StateType type, ByteSpan state) {
  HF_ASSERT(state.size() <= kStateBlobSizeMax);
  Bytes out(kMigrationBlobOverhead + state.size());
  std::byte* at = out.data();
  store_le(at, kMigrationBlobMagic);
  store_le(at + 4, kMigrationBlobVersion);
  store_le(at + 6, static_cast<uint16_t>(type));
  store_le(at + 8, Engine::libtpms_version());
  store_le(at + 12, kStateLevelSupported);
  std::memcpy(at + 16, vm_.bytes.data(), vm_.bytes.size());
  crypto::Nonce nonce;
  rng_.fill(nonce);
  std::memcpy(at + 32, nonce.data(), nonce.size());
  const MutableByteSpan all(out);
  aead_.seal(nonce, all.first(kMigrationBlobHeaderSize), state,
             all.subspan(kMigrationBlobHeaderSize));
  return out;
}

Result<Bytes> GspBlobSealer::open(StateType type, ByteSpan sealed) {
  if (sealed.size() < kMigrationBlobOverhead ||
      sealed.size() > kMigrationBlobOverhead + kStateBlobSizeMax ||
      load_le<uint32_t>(sealed.data()) != kMigrationBlobMagic) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "not a sealed vTPM state"};
  }
  const std::byte* at = sealed.data();
  if (load_le<uint16_t>(at + 4) != kMigrationBlobVersion ||
      load_le<uint32_t>(at + 12) > kStateLevelSupported) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "sealed vTPM state of a newer format or libtpms " +
                          libtpms_version_text(load_le<uint32_t>(at + 8)),
                 .mend = "upgrade libtpms and Holdfast on this host"};
  }
  if (load_le<uint16_t>(at + 6) != static_cast<uint16_t>(type) ||
      std::memcmp(at + 16, vm_.bytes.data(), vm_.bytes.size()) != 0) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "sealed vTPM state of another VM or of another kind"};
  }
  crypto::Nonce nonce;
  std::memcpy(nonce.data(), at + 32, nonce.size());
  Bytes state(sealed.size() - kMigrationBlobOverhead);
  TRY_CONTEXT(aead_.open(nonce, sealed.first(kMigrationBlobHeaderSize),
                         sealed.subspan(kMigrationBlobHeaderSize), state),
              "sealed vTPM state");
  return state;
}

}  // namespace hf::vtpm
