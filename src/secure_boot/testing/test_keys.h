// Keys and certificates made for a test, for tests only.
#pragma once

#include "base/bytes.h"
#include "crypto/key_pair.h"
#include "crypto/x509.h"

namespace hf::secure_boot {

struct TestKey {
  crypto::KeyPair key;
  Bytes certificate;  // DER, self-signed
  explicit TestKey(const std::string& name)
      : key(crypto::KeyPair::generate_rsa(2048)),
        certificate(crypto::make_ca(key, {.common_name = name,
                                          .now = Micros(uint64_t{1'760'000'000} * 1'000'000),
                                          .valid_days = 1})
                        .to_der()) {}
};

}  // namespace hf::secure_boot
