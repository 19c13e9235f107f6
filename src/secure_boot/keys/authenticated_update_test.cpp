#include "secure_boot/keys/authenticated_update.h"

#include <gtest/gtest.h>

#include <random>

#include "secure_boot/keys/signed_data.h"
#include "secure_boot/testing/test_files.h"
#include "secure_boot/testing/test_keys.h"

namespace hf::secure_boot {
namespace {

Digest digest(uint8_t fill) {
  Digest out;
  out.bytes.fill(static_cast<std::byte>(fill));
  return out;
}

constexpr EfiTime kEarly{.year = 2024, .month = 1, .day = 2};
constexpr EfiTime kLater{.year = 2024, .month = 1, .day = 3};

// A store with a PK, a KEK, a db and a dbx of its own, all of kEarly.
class AuthenticatedUpdates : public ::testing::Test {
 protected:
  static const TestKey& pk() {
    static const TestKey key("Test PK");
    return key;
  }
  static const TestKey& kek() {
    static const TestKey key("Test KEK");
    return key;
  }
  static const TestKey& stranger() {
    static const TestKey key("Stranger");
    return key;
  }
  AuthenticatedUpdates() : store_(VariableStore::parse(read_test_file(kEmptyStore)).value()) {
    put(KeyVariable::kPk, SignatureDatabase::of_certificate(guids::kHoldfast, pk().certificate));
    put(KeyVariable::kKek, SignatureDatabase::of_certificate(guids::kHoldfast, kek().certificate));
    put(KeyVariable::kDb, SignatureDatabase::of_sha256(guids::kHoldfast, {digest(1)}));
    put(KeyVariable::kDbx, SignatureDatabase::of_sha256(guids::kHoldfast, {digest(9)}));
  }
  void put(KeyVariable variable, const SignatureDatabase& content) {
    const KeyVariableName& name = name_of(variable);
    HF_ASSERT(store_
                  .set({.vendor = name.vendor,
                        .name = utf16(name.name),
                        .attributes = attribute::kSecureBoot,
                        .data = content.to_bytes(),
                        .time = kEarly})
                  .ok());
  }
  SignatureDatabase held(KeyVariable variable) const {
    const Variable* found = store_.find(name_of(variable).vendor, name_of(variable).name);
    return found == nullptr ? SignatureDatabase() : SignatureDatabase::parse(found->data).value();
  }
  static Bytes signed_update(KeyVariable variable, UpdateKind kind, const EfiTime& time,
                             const Bytes& value, const TestKey& by) {
    return to_bytes(
        sign_update(variable, kind, time, value, {.key = by.key, .certificate = by.certificate})
            .value());
  }
  static Bytes digests(std::vector<Digest> which) {
    return SignatureDatabase::of_sha256(guids::kHoldfast, which).to_bytes();
  }

  VariableStore store_;
};

TEST_F(AuthenticatedUpdates, appends_to_dbx_by_the_kek) {
  const Bytes update = signed_update(KeyVariable::kDbx, UpdateKind::kAppend, kLater,
                                     digests({digest(9), digest(7)}), kek());
  auto applied = apply_update(store_, std::nullopt, update);
  ASSERT_TRUE(applied.ok()) << applied.error().cause;
  EXPECT_EQ(applied->variable, KeyVariable::kDbx);
  EXPECT_EQ(applied->kind, UpdateKind::kAppend);
  EXPECT_EQ(applied->authority.certificate, "Test KEK");
  EXPECT_EQ(applied->authority.signer, "Test KEK");
  EXPECT_EQ(applied->added, 1U);
  EXPECT_EQ(held(KeyVariable::kDbx).size(), 2U);
  const Variable* dbx = store_.find(guids::kImageSecurity, "dbx");
  EXPECT_EQ(dbx->time, kLater);
  EXPECT_EQ(dbx->attributes, attribute::kSecureBoot);
  // Once more: nothing new, and no error.
  EXPECT_EQ(apply_update(store_, std::nullopt, update)->added, 0U);
}

TEST_F(AuthenticatedUpdates, of_an_older_time_still_appends_and_keeps_the_later_time) {
  constexpr EfiTime kOld{.year = 2010, .month = 3, .day = 6};
  const Bytes update =
      signed_update(KeyVariable::kDbx, UpdateKind::kAppend, kOld, digests({digest(7)}), kek());
  ASSERT_TRUE(apply_update(store_, std::nullopt, update).ok());
  EXPECT_EQ(store_.find(guids::kImageSecurity, "dbx")->time, kEarly);
}

TEST_F(AuthenticatedUpdates, replace_only_with_a_later_time) {
  const Bytes value = digests({digest(5)});
  for (const EfiTime& time : {kEarly, EfiTime{.year = 2023, .month = 12, .day = 31}}) {
    const Bytes replay = signed_update(KeyVariable::kDb, UpdateKind::kReplace, time, value, kek());
    EXPECT_EQ(apply_update(store_, std::nullopt, replay).error().code, ErrorCode::kConflict);
  }
  const Bytes update = signed_update(KeyVariable::kDb, UpdateKind::kReplace, kLater, value, kek());
  ASSERT_TRUE(apply_update(store_, KeyVariable::kDb, update).ok());
  EXPECT_TRUE(held(KeyVariable::kDb).contains(guids::kSha256, digest(5).bytes));
  EXPECT_FALSE(held(KeyVariable::kDb).contains(guids::kSha256, digest(1).bytes));
  EXPECT_EQ(apply_update(store_, KeyVariable::kDb, update).error().code, ErrorCode::kConflict);
}

TEST_F(AuthenticatedUpdates, obey_only_who_may_change_the_variable) {
  const Bytes value = digests({digest(5)});
  const Bytes key =
      SignatureDatabase::of_certificate(guids::kHoldfast, stranger().certificate).to_bytes();
  struct Case {
    KeyVariable variable;
    const Bytes& value;
    const TestKey& by;
    bool taken;
  };
  for (const Case& one : std::vector<Case>{{KeyVariable::kDb, value, stranger(), false},
                                           {KeyVariable::kDb, value, pk(), false},
                                           {KeyVariable::kKek, key, kek(), false},
                                           {KeyVariable::kKek, key, pk(), true},
                                           {KeyVariable::kPk, key, kek(), false},
                                           {KeyVariable::kPk, key, stranger(), false},
                                           {KeyVariable::kPk, key, pk(), true}}) {
    VariableStore store = store_;
    const Bytes update =
        signed_update(one.variable, UpdateKind::kReplace, kLater, one.value, one.by);
    auto applied = apply_update(store, std::nullopt, update);
    EXPECT_EQ(applied.ok(), one.taken) << name_of(one.variable).name;
    if (!applied.ok()) {
      EXPECT_EQ(applied.error().code, ErrorCode::kWrongKey);
      EXPECT_TRUE(std::ranges::equal(store.image(), store_.image()));
    }
  }
}

TEST_F(AuthenticatedUpdates, are_bound_to_their_variable_and_kind) {
  const Bytes update =
      signed_update(KeyVariable::kDbx, UpdateKind::kAppend, kLater, digests({digest(7)}), kek());
  auto other = apply_update(store_, KeyVariable::kDb, update);
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code, ErrorCode::kWrongKey);
  EXPECT_EQ(other.error().cause,
            "the update of db is signed by \"Test KEK\", whom no certificate in this store's KEK "
            "vouches for");
}

// A running guest has to say both to its firmware.
TEST_F(AuthenticatedUpdates, tell_their_variable_and_kind) {
  const SecureBootVariables keys = secure_boot_variables(store_);
  for (UpdateKind kind : {UpdateKind::kAppend, UpdateKind::kReplace}) {
    auto target = update_target(
        signed_update(KeyVariable::kDbx, kind, kLater, digests({digest(7)}), kek()), keys);
    ASSERT_TRUE(target.ok()) << target.error().cause;
    EXPECT_EQ(target->variable, KeyVariable::kDbx);
    EXPECT_EQ(target->kind, kind);
  }
  auto strange = update_target(signed_update(KeyVariable::kDbx, UpdateKind::kAppend, kLater,
                                             digests({digest(7)}), stranger()),
                               keys);
  ASSERT_FALSE(strange.ok());
  EXPECT_EQ(strange.error().code, ErrorCode::kWrongKey);
  EXPECT_FALSE(update_target(digests({digest(7)}), keys).ok());
}

TEST_F(AuthenticatedUpdates, with_nothing_in_it_deletes) {
  const Bytes update = signed_update(KeyVariable::kDb, UpdateKind::kReplace, kLater, {}, kek());
  ASSERT_TRUE(apply_update(store_, KeyVariable::kDb, update).ok());
  EXPECT_EQ(store_.find(guids::kImageSecurity, "db"), nullptr);
}

// edk2, ProcessVarWithKek(): nobody is asked for in setup mode, and no time.
TEST_F(AuthenticatedUpdates, in_setup_mode_are_taken_from_anybody) {
  ASSERT_TRUE(store_.remove(guids::kGlobalVariable, "PK"));
  const Bytes append = signed_update(KeyVariable::kDbx, UpdateKind::kAppend, kLater,
                                     digests({digest(5)}), stranger());
  auto applied = apply_update(store_, std::nullopt, append);
  ASSERT_TRUE(applied.ok()) << applied.error().cause;
  EXPECT_EQ(applied->variable, KeyVariable::kDbx);
  EXPECT_EQ(applied->kind, UpdateKind::kAppend);
  EXPECT_EQ(applied->authority.certificate, "");
  EXPECT_EQ(applied->authority.signer, "Stranger");
  EXPECT_EQ(held(KeyVariable::kDbx).size(), 2U);
  const Bytes kek_update = signed_update(
      KeyVariable::kKek, UpdateKind::kReplace, kEarly,
      SignatureDatabase::of_certificate(guids::kHoldfast, stranger().certificate).to_bytes(),
      stranger());
  ASSERT_TRUE(apply_update(store_, std::nullopt, kek_update).ok());
  EXPECT_TRUE(held(KeyVariable::kKek).contains(guids::kX509, stranger().certificate));
  constexpr EfiTime kBefore{.year = 2020, .month = 1, .day = 1};
  const Bytes older = signed_update(KeyVariable::kDb, UpdateKind::kReplace, kBefore,
                                    digests({digest(7)}), stranger());
  ASSERT_TRUE(apply_update(store_, KeyVariable::kDb, older).ok());
  EXPECT_EQ(store_.find(guids::kImageSecurity, "db")->time.text(), kBefore.text());
}

// ProcessVarWithPk(): a PK by its own key only, which ends setup mode.
TEST_F(AuthenticatedUpdates, in_setup_mode_a_platform_key_signs_itself) {
  ASSERT_TRUE(store_.remove(guids::kGlobalVariable, "PK"));
  const Bytes value =
      SignatureDatabase::of_certificate(guids::kHoldfast, pk().certificate).to_bytes();
  const Bytes by_other =
      signed_update(KeyVariable::kPk, UpdateKind::kReplace, kLater, value, stranger());
  EXPECT_EQ(apply_update(store_, std::nullopt, by_other).error().code, ErrorCode::kWrongKey);
  const Bytes by_itself =
      signed_update(KeyVariable::kPk, UpdateKind::kReplace, kLater, value, pk());
  ASSERT_TRUE(apply_update(store_, std::nullopt, by_itself).ok());
  const Bytes stranger_again = signed_update(KeyVariable::kDbx, UpdateKind::kAppend, kLater,
                                             digests({digest(5)}), stranger());
  EXPECT_EQ(apply_update(store_, std::nullopt, stranger_again).error().code, ErrorCode::kWrongKey);
}

TEST_F(AuthenticatedUpdates, in_setup_mode_whose_signature_says_nothing_are_left_to_the_operator) {
  ASSERT_TRUE(store_.remove(guids::kGlobalVariable, "PK"));
  AuthenticatedUpdate update = parse_update(signed_update(KeyVariable::kDb, UpdateKind::kAppend,
                                                          kLater, digests({digest(5)}), kek()))
                                   .value();
  update.value = digests({digest(6)});
  auto applied = apply_update(store_, std::nullopt, to_bytes(update));
  EXPECT_EQ(applied.error().code, ErrorCode::kConflict);
  EXPECT_NE(applied.error().cause.find("setup mode"), std::string::npos);
}

TEST_F(AuthenticatedUpdates, refuse_a_key_that_is_not_the_certificates) {
  EXPECT_EQ(sign_update(KeyVariable::kDb, UpdateKind::kReplace, kLater, digests({digest(5)}),
                        {.key = kek().key, .certificate = pk().certificate})
                .error()
                .code,
            ErrorCode::kInvalidArgument);
}

TEST_F(AuthenticatedUpdates, give_their_bytes_back) {
  const Bytes bytes =
      signed_update(KeyVariable::kDb, UpdateKind::kReplace, kLater, digests({digest(5)}), kek());
  EXPECT_EQ(to_bytes(parse_update(bytes).value()), bytes);
  EXPECT_TRUE(looks_like_update(bytes));
  EXPECT_FALSE(looks_like_update(digests({digest(5)})));
}

TEST_F(AuthenticatedUpdates, say_what_is_broken) {
  const Bytes good =
      signed_update(KeyVariable::kDb, UpdateKind::kReplace, kLater, digests({digest(5)}), kek());
  const auto with = [&](size_t at, uint8_t value) {
    Bytes bad = good;
    bad[at] = static_cast<std::byte>(value);
    return apply_update(store_, std::nullopt, bad).error().cause;
  };
  EXPECT_EQ(with(12, 1),
            "authenticated update: its time has a zone or parts of a second, which "
            "firmware refuses");
  EXPECT_EQ(with(20, 1), "authenticated update: it does not begin with one");
  EXPECT_EQ(with(24, 1), "authenticated update: signed in another way than PKCS #7");
  EXPECT_EQ(with(18, 1), "authenticated update: its certificate of " +
                             std::to_string(load_le<uint32_t>(&good[16]) + 0x10000) +
                             " bytes is not within its " + std::to_string(good.size()));
  EXPECT_EQ(with(40, 0), "its signature is no PKCS #7 SignedData");
  EXPECT_EQ(with(good.size() - 1, 0xee),
            "the update is signed by \"Test KEK\", whom no certificate in this store's PK or KEK "
            "vouches for");
}

// No bit of an update is without effect: a flipped one is refused, or the update reads the same
// (bits of the PKCS #7 that no signature covers, such as the certificates' own signatures).
TEST_F(AuthenticatedUpdates, survive_mutations_without_being_believed) {
  const Bytes good = signed_update(KeyVariable::kDbx, UpdateKind::kAppend, kLater,
                                   digests({digest(7), digest(8)}), kek());
  const size_t value_at = good.size() - parse_update(good).value().value.size();
  std::mt19937 random(3);
  size_t refused = 0;
  for (int round = 0; round < 10'000; ++round) {
    Bytes bad = good;
    const size_t at = random() % bad.size();
    bad[at] ^= static_cast<std::byte>(1U << (random() % 8));
    VariableStore store = store_;
    auto applied = apply_update(store, KeyVariable::kDbx, bad);
    if (!applied.ok()) {
      ++refused;
      ASSERT_TRUE(std::ranges::equal(store.image(), store_.image()));
      continue;
    }
    ASSERT_FALSE(at < 16 || at >= value_at) << "byte " << at << " is signed";
    const AuthenticatedUpdate update = parse_update(bad).value();
    ASSERT_EQ(update.value, parse_update(good).value().value);
  }
  EXPECT_GT(refused, 5'000U);
}

TEST(SignedDataTest, reads_private_keys_in_pem_only_unencrypted) {
  auto encrypted = private_key_in(read_test_file(kSnakeoilKey));
  ASSERT_FALSE(encrypted.ok());
  EXPECT_EQ(encrypted.error().mend, "openssl pkey -in FILE -out PLAIN.pem");
  EXPECT_FALSE(private_key_in(read_test_file(kDebianCa)).ok());
}

}  // namespace
}  // namespace hf::secure_boot
