// For tests: a TPM (libtpms) with attestation keys and endorsement keys to quote and open
// credentials with.
#pragma once

#include <gtest/gtest.h>

#include "attestation/tpm/quote.h"
#include "vtpm/tpm_test_support.h"

namespace hf::attestation {

class RealTpm {
 public:
  RealTpm() {
    engine_ = std::move(vtpm::Engine::create({.store = &store_})).value();
    EXPECT_TRUE(engine_->init().ok());
    guest_ = std::make_unique<vtpm::GuestTpm>(*engine_);
    EXPECT_EQ(guest_->startup(), vtpm::kRcSuccess);
  }

  struct Key {
    uint32_t handle = 0;
    Bytes area;  // TPMT_PUBLIC
  };
  // A primary key of the endorsement hierarchy, used with an empty password.
  Key create_primary(const Bytes& area) {
    const auto answer =
        guest_->send(vtpm::CommandBuilder(vtpm::kTagSessions, vtpm::kCcCreatePrimary)
                         .u32(vtpm::kHandleEndorsement)
                         .password()
                         .u16(4)
                         .u16(0)
                         .u16(0)
                         .sized(area)
                         .u16(0)
                         .u32(0)
                         .finish());
    EXPECT_EQ(answer.code, vtpm::kRcSuccess);
    if (answer.code != vtpm::kRcSuccess) return {};
    vtpm::ResponseReader reader(answer.body);
    const uint32_t handle = reader.u32().value();
    EXPECT_TRUE(reader.u32().ok());
    const ByteSpan made = reader.sized().value();
    return {.handle = handle, .area = Bytes(made.begin(), made.end())};
  }

  Key create_rsa_ak(uint16_t scheme, uint32_t attributes = 0x00050072) {
    return create_primary(public_area(vtpm::kAlgRsa, attributes)
                              .u16(vtpm::kAlgNull)
                              .u16(scheme)
                              .u16(vtpm::kAlgSha256)
                              .u16(2048)
                              .u32(0)
                              .u16(0)
                              .finish_area());
  }
  Key create_ecc_ak(uint16_t curve, uint16_t scheme_hash) {
    return create_primary(public_area(vtpm::kAlgEcc, 0x00050072)
                              .u16(vtpm::kAlgNull)
                              .u16(kAlgEcdsa)
                              .u16(scheme_hash)
                              .u16(curve)
                              .u16(vtpm::kAlgNull)
                              .u16(0)
                              .u16(0)
                              .finish_area());
  }
  // As the endorsement keys of the TCG profile, but for their policy: a password opens these.
  Key create_rsa_ek() {
    return create_primary(public_area(vtpm::kAlgRsa, 0x00030072)
                              .u16(vtpm::kAlgAes)
                              .u16(128)
                              .u16(vtpm::kAlgCfb)
                              .u16(vtpm::kAlgNull)
                              .u16(2048)
                              .u32(0)
                              .u16(0)
                              .finish_area());
  }
  Key create_ecc_ek(uint16_t curve, uint16_t name_alg, uint16_t aes_bits) {
    return create_primary(public_area(vtpm::kAlgEcc, 0x00030072, name_alg)
                              .u16(vtpm::kAlgAes)
                              .u16(aes_bits)
                              .u16(vtpm::kAlgCfb)
                              .u16(vtpm::kAlgNull)
                              .u16(curve)
                              .u16(vtpm::kAlgNull)
                              .u16(0)
                              .u16(0)
                              .finish_area());
  }

  struct Quote {
    Bytes attest;
    Bytes signature;
  };
  Quote quote(const Key& key, ByteSpan nonce, const std::vector<PcrSelection>& selection) {
    vtpm::CommandBuilder command(vtpm::kTagSessions, 0x158);
    command.u32(key.handle).password().sized(nonce).u16(vtpm::kAlgNull);
    command.u32(static_cast<uint32_t>(selection.size()));
    for (const PcrSelection& bank : selection) {
      command.u16(static_cast<uint16_t>(bank.bank)).u8(3);
      for (int octet = 0; octet < 3; ++octet) {
        command.u8(static_cast<uint8_t>(bank.mask >> (8 * octet) & 0xFF));
      }
    }
    const auto answer = guest_->send(command.finish());
    EXPECT_EQ(answer.code, vtpm::kRcSuccess);
    if (answer.code != vtpm::kRcSuccess) return {};
    vtpm::ResponseReader reader(answer.body);
    const uint32_t size = reader.u32().value();
    const ByteSpan all = reader.raw(size).value();
    vtpm::ResponseReader parameters(all);
    const ByteSpan attest = parameters.sized().value();
    const ByteSpan signature = parameters.rest();
    return {.attest = Bytes(attest.begin(), attest.end()),
            .signature = Bytes(signature.begin(), signature.end())};
  }

  std::vector<PcrValues> read(const std::vector<PcrSelection>& selection) {
    std::vector<PcrValues> banks;
    for (const PcrSelection& bank : selection) {
      PcrValues& values = banks.emplace_back();
      values.bank = bank.bank;
      for (uint8_t pcr = 0; pcr < kPcrCount; ++pcr) {
        if ((bank.mask >> pcr & 1) == 0) continue;
        values.values[pcr] = guest_->read_pcr(pcr, static_cast<uint16_t>(bank.bank));
      }
    }
    return banks;
  }

  // TPM_RC, and the secret if it was success.
  struct Activated {
    uint32_t code = 0;
    Bytes secret;
  };
  Activated activate(const Key& ak, const Key& ek, ByteSpan id_object, ByteSpan encrypted_secret) {
    const auto answer = guest_->send(vtpm::CommandBuilder(vtpm::kTagSessions, 0x147)
                                         .u32(ak.handle)
                                         .u32(ek.handle)
                                         .u32(18)  // two password sessions
                                         .u32(vtpm::kHandlePassword)
                                         .u16(0)
                                         .u8(0)
                                         .u16(0)
                                         .u32(vtpm::kHandlePassword)
                                         .u16(0)
                                         .u8(0)
                                         .u16(0)
                                         .raw(id_object)
                                         .raw(encrypted_secret)
                                         .finish());
    if (answer.code != vtpm::kRcSuccess) return {.code = answer.code, .secret = {}};
    vtpm::ResponseReader reader(answer.body);
    EXPECT_TRUE(reader.u32().ok());
    const ByteSpan secret = reader.sized().value();
    return {.code = 0, .secret = Bytes(secret.begin(), secret.end())};
  }

  void flush(const Key& key) {
    guest_->send(
        vtpm::CommandBuilder(vtpm::kTagNoSessions, vtpm::kCcFlushContext).u32(key.handle).finish());
  }
  vtpm::GuestTpm& guest() { return *guest_; }

 private:
  class Area : public vtpm::CommandBuilder {
   public:
    Area() : vtpm::CommandBuilder(0, 0) {}
    Area& u16(uint16_t value) {
      vtpm::CommandBuilder::u16(value);
      return *this;
    }
    Area& u32(uint32_t value) {
      vtpm::CommandBuilder::u32(value);
      return *this;
    }
    Bytes finish_area() {
      const Bytes all = finish();
      return Bytes(all.begin() + vtpm::kTpmHeaderSize, all.end());
    }
  };
  static Area public_area(uint16_t type, uint32_t attributes,
                          uint16_t name_alg = vtpm::kAlgSha256) {
    Area area;
    area.u16(type).u16(name_alg).u32(attributes).u16(0);  // no policy
    return area;
  }

  vtpm::MemoryStateStore store_;
  std::unique_ptr<vtpm::Engine> engine_;
  std::unique_ptr<vtpm::GuestTpm> guest_;
};

}  // namespace hf::attestation
