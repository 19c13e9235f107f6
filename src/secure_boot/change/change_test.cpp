#include "secure_boot/change/change.h"

#include <gtest/gtest.h>

#include "secure_boot/change/content.h"
#include "secure_boot/image/pe_image.h"
#include "secure_boot/keys/authenticated_update.h"
#include "secure_boot/testing/test_files.h"
#include "secure_boot/testing/test_keys.h"
#include "secure_boot/testing/test_pe.h"

namespace hf::secure_boot {
namespace {

constexpr EfiTime kNow{.year = 2026, .month = 11, .day = 22, .hour = 20};

VariableStore store_of(const char* path) {
  return VariableStore::parse(read_test_file(path)).value();
}

const TestKey& key() {
  static const TestKey made("Test CA");
  return made;
}
Bytes lists_of(const TestKey& of) {
  return SignatureDatabase::of_certificate(guids::kHoldfast, of.certificate).to_bytes();
}

TEST(Change, appends_a_certificate_to_db_and_takes_it_out_again) {
  VariableStore store = store_of(kMicrosoftStore);
  const Change append{"db", ChangeAction::kAppend, lists_of(key())};
  auto done = apply_change(store, append, kNow);
  ASSERT_TRUE(done.ok()) << done.error().cause;
  EXPECT_EQ(done->words, "db: 1 added, 0 removed, 3 in all");
  EXPECT_TRUE(done->changed);
  EXPECT_EQ(store.find(guids::kImageSecurity, "db")->time, kNow);
  EXPECT_EQ(store.find(guids::kImageSecurity, "db")->attributes, attribute::kSecureBoot);
  EXPECT_FALSE(apply_change(store, append, kNow)->changed);
  auto gone = apply_change(store, {"db", ChangeAction::kRemove, append.data}, kNow);
  ASSERT_TRUE(gone.ok());
  EXPECT_EQ(gone->removed, 1U);
  EXPECT_EQ(store.find(guids::kImageSecurity, "db")->data,
            store_of(kMicrosoftStore).find(guids::kImageSecurity, "db")->data);
}

TEST(Change, never_takes_a_variables_time_back) {
  VariableStore store = store_of(kMicrosoftStore);
  constexpr EfiTime kLongAgo{.year = 1999, .month = 1, .day = 1};
  ASSERT_TRUE(apply_change(store, {"db", ChangeAction::kAppend, lists_of(key())}, kLongAgo).ok());
  EXPECT_EQ(store.find(guids::kImageSecurity, "db")->time.text(), "2025-03-10T02:53:39Z");
}

TEST(Change, describes_itself_in_words) {
  EXPECT_EQ(describe({"db", ChangeAction::kAppend, lists_of(key())}).substr(0, 37),
            "append to db: X509 \"Test CA\" (sha256 ");
  EXPECT_EQ(describe({"PK", ChangeAction::kDelete, {}}), "delete PK");
  EXPECT_EQ(describe({"SecureBootEnable", ChangeAction::kSet, {std::byte{0}}}),
            "set SecureBootEnable to 00");
  std::vector<Digest> many(6);
  for (size_t i = 0; i < many.size(); ++i) many[i].bytes[0] = static_cast<std::byte>(i);
  const std::string text = describe(
      {"dbx", ChangeAction::kAppend, SignatureDatabase::of_sha256(Guid{}, many).to_bytes()});
  EXPECT_TRUE(text.ends_with(" and 2 more")) << text;
}

TEST(Change, refuses_what_cannot_be) {
  VariableStore store = store_of(kMicrosoftStore);
  const Bytes before(store.image().begin(), store.image().end());
  SignatureDatabase two = SignatureDatabase::of_certificate(guids::kHoldfast, key().certificate);
  two.append(SignatureDatabase::of_certificate(guids::kHoldfast, read_test_file(kDebianCa)));
  for (const Change& change :
       std::vector<Change>{{"BootOrder", ChangeAction::kSet, lists_of(key())},
                           {"db", ChangeAction::kSet, {}},
                           {"db", ChangeAction::kAppend, Bytes(30)},
                           {"db", ChangeAction::kDelete, lists_of(key())},
                           {"PK", ChangeAction::kSet, two.to_bytes()},
                           {"PK", ChangeAction::kAppend, lists_of(key())},
                           {"SecureBootEnable", ChangeAction::kSet, {std::byte{2}}},
                           {"SecureBootEnable", ChangeAction::kAppend, {std::byte{1}}},
                           {"MokList", ChangeAction::kUpdate, lists_of(key())},
                           {"db", ChangeAction::kUpdate, lists_of(key())}}) {
    EXPECT_FALSE(apply_change(store, change, kNow).ok()) << describe(change);
  }
  EXPECT_TRUE(std::ranges::equal(store.image(), before));
}

TEST(Change, enrols_a_mok_as_shim_takes_it) {
  VariableStore store = store_of(kMicrosoftStore);
  ASSERT_TRUE(apply_change(store, {"MokList", ChangeAction::kAppend, lists_of(key())}, kNow).ok());
  const Variable* mok = store.find(guids::kShimLock, "MokList");
  ASSERT_NE(mok, nullptr);
  EXPECT_EQ(mok->attributes, attribute::kNonVolatile | attribute::kBootService);
  EXPECT_TRUE(mok->time.is_zero());
  EXPECT_EQ(secure_boot_variables(store).mok, lists_of(key()));
}

TEST(Change, a_mok_list_that_shim_would_delete_is_not_added_to) {
  VariableStore store = store_of(kMicrosoftStore);
  const TestKey planted("Planted");
  ASSERT_TRUE(store
                  .set({.vendor = guids::kShimLock,
                        .name = utf16("MokList"),
                        .attributes = attribute::kBootOnly | attribute::kRuntime,
                        .data = lists_of(planted)})
                  .ok());
  ASSERT_TRUE(apply_change(store, {"MokList", ChangeAction::kAppend, lists_of(key())}, kNow).ok());
  EXPECT_EQ(secure_boot_variables(store).mok, lists_of(key()));
  EXPECT_TRUE(secure_boot_variables(store).ignored.empty());
}

TEST(Change, switches_secure_boot_off_and_on) {
  VariableStore store = store_of(kMicrosoftStore);
  ASSERT_TRUE(
      apply_change(store, {"SecureBootEnable", ChangeAction::kSet, {std::byte{0}}}, kNow).ok());
  EXPECT_FALSE(secure_boot_variables(store).enabled);
  ASSERT_TRUE(
      apply_change(store, {"SecureBootEnable", ChangeAction::kSet, {std::byte{1}}}, kNow).ok());
  EXPECT_TRUE(secure_boot_variables(store).enabled);
}

TEST(Change, does_what_firmware_does_when_the_platform_key_comes_or_goes) {
  VariableStore store = store_of(kMicrosoftStore);
  ASSERT_TRUE(apply_change(store, {"PK", ChangeAction::kDelete, {}}, kNow).ok());
  EXPECT_EQ(store.find(guids::kSecureBootEnable, "SecureBootEnable"), nullptr);
  EXPECT_FALSE(secure_boot_variables(store).enabled);
  ASSERT_TRUE(apply_change(store, {"PK", ChangeAction::kSet, lists_of(key())}, kNow).ok());
  EXPECT_TRUE(secure_boot_variables(store).enabled);
  EXPECT_EQ(store.find(guids::kSecureBootEnable, "SecureBootEnable")->data, Bytes{std::byte{1}});
}

TEST(Change, a_switch_set_after_the_platform_key_stays_as_it_was_set) {
  VariableStore store = store_of(kEmptyStore);
  const std::vector<Change> changes = {{"PK", ChangeAction::kSet, lists_of(key())},
                                       {"SecureBootEnable", ChangeAction::kSet, {std::byte{0}}}};
  auto done = apply_changes(store, changes, kNow);
  ASSERT_TRUE(done.ok()) << done.error().cause;
  EXPECT_EQ((*done)[1].words, "SecureBootEnable: 0");
  EXPECT_EQ(store.find(guids::kSecureBootEnable, "SecureBootEnable")->data, Bytes{std::byte{0}});
  EXPECT_FALSE(secure_boot_variables(store).enabled);
}

TEST(Change, sets_what_it_is_given_byte_for_byte) {
  VariableStore store = store_of(kMicrosoftStore);
  // The same certificate twice, and a list without signatures.
  Bytes odd = lists_of(key());
  const Bytes once = odd;
  odd.insert(odd.end(), once.begin(), once.end());
  Bytes empty(kSignatureListHeaderSize);
  guids::kSha256.store(empty.data());
  store_le<uint32_t>(empty.data() + 16, kSignatureListHeaderSize);
  store_le<uint32_t>(empty.data() + 24, 48);
  odd.insert(odd.end(), empty.begin(), empty.end());
  ASSERT_TRUE(apply_change(store, {"db", ChangeAction::kSet, odd}, kNow).ok());
  EXPECT_EQ(store.find(guids::kImageSecurity, "db")->data, odd);
  EXPECT_FALSE(apply_change(store, {"db", ChangeAction::kSet, odd}, kNow)->changed);
  auto done = apply_change(store, {"db", ChangeAction::kSet, once}, kNow);
  EXPECT_TRUE(done->changed);  // other bytes, although the same signatures
  EXPECT_EQ(store.find(guids::kImageSecurity, "db")->data, once);
}

TEST(Change, goes_back_to_what_firmware_would_not_take_today) {
  const SignatureDatabase odd = SignatureDatabase::of_certificate(guids::kHoldfast, Bytes(40));
  for (const Bytes& before : {odd.to_bytes(), Bytes(30, std::byte{1})}) {
    VariableStore store = store_of(kMicrosoftStore);
    ASSERT_TRUE(apply_change(store, {"db", ChangeAction::kSet, before}, kNow).ok());
    EXPECT_EQ(store.find(guids::kImageSecurity, "db")->data, before);
    EXPECT_FALSE(check({"db", ChangeAction::kSet, before}).ok());  // as somebody's new wish
  }
}

TEST(Change, applies_all_or_none) {
  VariableStore store = store_of(kMicrosoftStore);
  const Bytes before(store.image().begin(), store.image().end());
  const std::vector<Change> changes = {{"db", ChangeAction::kAppend, lists_of(key())},
                                       {"dbx", ChangeAction::kAppend, Bytes(3)}};
  auto failed = apply_changes(store, changes, kNow);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().cause,
            "append to dbx: (unreadable): signature list 0: 3 bytes are too few for its header");
  EXPECT_TRUE(std::ranges::equal(store.image(), before));
}

TEST(Change, mends_a_database_that_cannot_be_read) {
  VariableStore store = store_of(kMicrosoftStore);
  Variable broken = *store.find(guids::kImageSecurity, "db");
  broken.data.resize(broken.data.size() - 1);
  ASSERT_TRUE(store.set(broken).ok());
  EXPECT_FALSE(apply_change(store, {"db", ChangeAction::kAppend, lists_of(key())}, kNow).ok());
  EXPECT_TRUE(apply_change(store, {"db", ChangeAction::kSet, lists_of(key())}, kNow).ok());
}

TEST(Change, takes_out_what_firmware_would_not_have_taken) {
  VariableStore store = store_of(kMicrosoftStore);
  SignatureDatabase odd = SignatureDatabase::of_certificate(guids::kHoldfast, Bytes(40));
  Variable db = *store.find(guids::kImageSecurity, "db");
  SignatureDatabase content = SignatureDatabase::parse(db.data).value();
  content.append(odd);
  content.append(SignatureDatabase::of_certificate(guids::kHoldfast, Bytes(41)));
  db.data = content.to_bytes();
  ASSERT_TRUE(store.set(db).ok());
  EXPECT_TRUE(apply_change(store, {"db", ChangeAction::kAppend, lists_of(key())}, kNow).ok());
  EXPECT_TRUE(apply_change(store, {"db", ChangeAction::kRemove, odd.to_bytes()}, kNow).ok());
  EXPECT_FALSE(apply_change(store, {"db", ChangeAction::kAppend, odd.to_bytes()}, kNow).ok());
}

TEST(Change, applies_a_signed_update_for_whatever_it_is_signed) {
  VariableStore store = store_of(kMicrosoftStore);
  const TestKey kek("Test KEK");
  ASSERT_TRUE(apply_change(store, {"KEK", ChangeAction::kAppend, lists_of(kek)}, kNow).ok());
  const auto update = sign_update(KeyVariable::kDb, UpdateKind::kAppend, kNow, lists_of(key()),
                                  {.key = kek.key, .certificate = kek.certificate});
  auto done = apply_change(store, {"", ChangeAction::kUpdate, to_bytes(*update)}, kNow);
  ASSERT_TRUE(done.ok()) << done.error().cause;
  EXPECT_EQ(done->words,
            "db: appended to by \"Test KEK\" (by \"Test KEK\" of KEK): 1 new, 3 in all");
}

TEST(Change, applies_a_strangers_update_in_setup_mode_and_says_so) {
  VariableStore store = store_of(kEmptyStore);
  const TestKey stranger("Stranger");
  const auto update = sign_update(KeyVariable::kDbx, UpdateKind::kAppend, kNow, lists_of(key()),
                                  {.key = stranger.key, .certificate = stranger.certificate});
  auto done = apply_change(store, {"", ChangeAction::kUpdate, to_bytes(*update)}, kNow);
  ASSERT_TRUE(done.ok()) << done.error().cause;
  EXPECT_EQ(done->words,
            "dbx: appended to by \"Stranger\" (in setup mode, as firmware does, whoever signed "
            "it): 1 new, 1 in all");
}

// An unsigned image that signing would pad: its signed form has another digest.
TEST(Content, of_an_unsigned_image_has_the_digest_of_its_signed_form_too) {
  for (size_t size : {800, 801, 807}) {
    const Bytes image = test_program({{".text", Bytes(size, std::byte{7})}});
    Result<Content> content = signatures_in(image);
    ASSERT_TRUE(content.ok()) << content.error().cause;
    Bytes padded = image;
    padded.resize((padded.size() + 7) / 8 * 8);
    ASSERT_EQ(content->signatures.size(), padded.size() == image.size() ? 1U : 2U);
    for (const Bytes& form : {image, padded}) {
      const Bytes digest = *PeImage::parse(form)->authenticode_digest(DigestAlgorithm::kSha256);
      EXPECT_TRUE(content->signatures.contains(guids::kSha256, digest));
    }
    EXPECT_EQ(content->form.find("zeros") != std::string::npos, padded.size() != image.size());
  }
}

TEST(ChangesBetween, lead_from_one_to_the_other_and_back) {
  const VariableStore store = store_of(kMicrosoftStore);
  const SecureBootVariables before = secure_boot_variables(store);
  EXPECT_TRUE(changes_between(before, before).empty());
  SecureBootVariables after = before;
  after.db = lists_of(key());
  after.dbx.reset();
  const std::vector<Change> changes = changes_between(before, after);
  ASSERT_EQ(changes.size(), 2U);
  EXPECT_EQ(changes[0].variable, "db");
  EXPECT_EQ(changes[0].action, ChangeAction::kSet);
  EXPECT_EQ(changes[1].variable, "dbx");
  EXPECT_EQ(changes[1].action, ChangeAction::kDelete);
  EXPECT_FALSE(describe(changes).empty());

  Result<SecureBootVariables> made = variables_after(store, before, changes, kNow);
  ASSERT_TRUE(made.ok()) << made.error().describe();
  EXPECT_EQ(made->db, after.db);
  EXPECT_EQ(made->dbx, after.dbx);
  EXPECT_EQ(made->kek, before.kek);
  // Tried on a store of the kind, which has other keys.
  Result<SecureBootVariables> undone =
      variables_after(store, *made, changes_between(*made, before), kNow);
  ASSERT_TRUE(undone.ok()) << undone.error().describe();
  EXPECT_EQ(undone->db, before.db);
  EXPECT_EQ(undone->dbx, before.dbx);
}

TEST(Change, knows_its_actions_by_name) {
  for (ChangeAction action : {ChangeAction::kSet, ChangeAction::kAppend, ChangeAction::kRemove,
                              ChangeAction::kDelete, ChangeAction::kUpdate}) {
    EXPECT_EQ(parse_change_action(name_of(action)).value(), action);
  }
  EXPECT_FALSE(parse_change_action("erase").ok());
}

}  // namespace
}  // namespace hf::secure_boot
