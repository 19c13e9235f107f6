// Nothing at all, as an empty file or an empty field is: a span and a text without an address. It
// is an answer or an error everywhere, and nowhere the end of the process.
#include "crypto/memory_bio.h"

#include <gtest/gtest.h>
#include <openssl/bio.h>

#include "crypto/crypto.h"
#include "crypto/kdf.h"
#include "crypto/x509.h"

namespace hf::crypto {
namespace {

TEST(Nothing, is_no_certificate_and_no_key) {
  EXPECT_FALSE(Certificate::from_pem({}).ok());
  EXPECT_FALSE(Certificate::from_der({}).ok());
  EXPECT_FALSE(subject_key_from_pem({}).ok());
  EXPECT_FALSE(SpkiKey::from_pem({}).ok());
  EXPECT_FALSE(SpkiKey::from_der({}).ok());
  EXPECT_FALSE(KeyPair::from_pkcs8({}).ok());
}

TEST(Nothing, is_read_to_its_end) {
  const BioHandle bio = reader_of({});
  char byte = 0;
  EXPECT_LE(BIO_read(bio.get(), &byte, 1), 0);
  EXPECT_EQ(BIO_eof(bio.get()), 1);
}

TEST(Nothing, is_hashed_signed_and_sealed_like_any_text) {
  EXPECT_EQ(sha256(ByteSpan()), sha256(as_bytes("")));
  EXPECT_EQ(sha256(ByteSpan(), ByteSpan()), sha256(as_bytes("")));
  Sha256 hash;
  hash.update({});
  EXPECT_EQ(hash.finish(), sha256(as_bytes("")));
  EXPECT_EQ(hmac_sha256({}, {}), hmac_sha256(as_bytes(""), as_bytes("")));
  EXPECT_EQ(to_hex(hkdf_sha256(as_bytes("k"), {}, {}, 32).span()),
            to_hex(hkdf_sha256(as_bytes("k"), as_bytes(""), "", 32).span()));
  EXPECT_TRUE(constant_time_equal({}, {}));
  EXPECT_EQ(to_hex(scrypt({}, {}, {.n = 16, .r = 1, .p = 1}, 32)->span()),
            to_hex(scrypt(as_bytes(""), as_bytes(""), {.n = 16, .r = 1, .p = 1}, 32)->span()));

  const Secret seed(32);
  const SigningKey key(seed);
  EXPECT_TRUE(verify(key.public_key(), {}, key.sign({})));

  Aead aead(seed);
  Bytes sealed(kTagSize);
  aead.seal(Nonce{}, {}, {}, sealed);
  EXPECT_TRUE(aead.open(Nonce{}, {}, sealed, {}).ok());
  EXPECT_FALSE(aead.open(Nonce{}, {}, {}, {}).ok());
}

}  // namespace
}  // namespace hf::crypto
