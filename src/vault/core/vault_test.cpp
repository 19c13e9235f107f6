#include "vault/core/vault.h"

#include "journal/seal/keys.h"
#include "vault/core/certificate.h"
#include "vault/core/testing.h"
#include "vault/core/wrap.h"

namespace hf::vault {
namespace {

using namespace testing;  // NOLINT

Freshness freshness_at(uint64_t sequence) {
  Freshness freshness{.position = {.incarnation = {}, .sequence = Sequence(sequence)},
                      .chain = {},
                      .time = Micros(7)};
  freshness.position.incarnation.bytes.fill(std::byte{0x11});
  freshness.chain.bytes.fill(std::byte{0x22});
  return freshness;
}

TEST(Keys, are_made_once_and_come_back_after_a_restart) {
  TestVault site("a");
  const KeyInfo made = site.make(1);
  EXPECT_EQ(made.version, KeyVersion(1));
  EXPECT_EQ(made.minted_at, site->identity().site);
  EXPECT_FALSE(made.released);
  site.reopen();
  EXPECT_EQ(*site->key_info(vm_of(1)), made);
  const KeyInfo another = site.make(2);
  EXPECT_NE(another.key_id, made.key_id);
  EXPECT_NE(another.vm, made.vm);
}

TEST(Keys, go_only_to_the_vms_keeper_and_only_while_released) {
  TestVault site("a");
  const KeyInfo made = site.make(1);
  EXPECT_EQ(site->fetch_key(vm_of(1), kKeeper).error().code, ErrorCode::kUnavailable);
  ASSERT_TRUE(site->release(vm_of(1), kDaemon).ok());
  const FetchedKey fetched = *site->fetch_key(vm_of(1), kKeeper);
  EXPECT_EQ(fetched.key_id, made.key_id);
  EXPECT_EQ(key_id_of(fetched.key), made.key_id);
  EXPECT_EQ(fetched.key.size(), 32u);
  EXPECT_TRUE(site->key_info(vm_of(1))->released);

  // Another VM's keeper, the VM's QEMU, and who asked for the release.
  for (const Caller& other : {kKeeper2, Caller{.uid = kKeeperUid + 1, .pid = 61}, kDaemon}) {
    EXPECT_EQ(site->fetch_key(vm_of(1), other).error().code, ErrorCode::kPermission);
    EXPECT_EQ(site->put_freshness(vm_of(1), freshness_at(1), other).error().code,
              ErrorCode::kPermission);
    EXPECT_EQ(site->get_freshness(vm_of(1), other).error().code, ErrorCode::kPermission);
  }
  EXPECT_EQ(site->fetch_key(vm_of(2), kKeeper).error().code, ErrorCode::kPermission);

  ASSERT_TRUE(site->revoke(vm_of(1), kDaemon).ok());
  EXPECT_EQ(site->fetch_key(vm_of(1), kKeeper).error().code, ErrorCode::kUnavailable);
}

TEST(Keys, are_released_only_to_a_keeper_that_the_launcher_has_named) {
  TestVault site("a");
  site.make(3);
  const Error error = site->release(vm_of(3), kDaemon).error();
  EXPECT_EQ(error.code, ErrorCode::kConflict);
  EXPECT_FALSE(error.effect.empty() || error.mend.empty());
  EXPECT_FALSE(site->key_info(vm_of(3))->released);
}

TEST(Keys, are_taken_back_when_their_keeper_is_gone_or_another_user) {
  TestVault site("a");
  for (const uint8_t number : {uint8_t{1}, uint8_t{2}}) {
    site.make(number);
    ASSERT_TRUE(site->release(vm_of(number), kDaemon).ok());
  }
  // VM 1's keeper has ended.
  ASSERT_TRUE(
      site->bind_keepers({.generation = 102, .keepers = {{vm_of(2), kKeeper2.uid}}}, kLauncher)
          .ok());
  EXPECT_FALSE(site->key_info(vm_of(1))->released);
  EXPECT_TRUE(site->fetch_key(vm_of(2), kKeeper2).ok());
  EXPECT_FALSE(site->is_keeper(kKeeper.uid));
  // Both are back: what was taken back is not released by that.
  ASSERT_TRUE(site->bind_keepers(both_keepers(103), kLauncher).ok());
  EXPECT_EQ(site->fetch_key(vm_of(1), kKeeper).error().code, ErrorCode::kUnavailable);
  EXPECT_TRUE(site->fetch_key(vm_of(2), kKeeper2).ok());
  // Their users change places: neither has the other's key for a moment.
  ASSERT_TRUE(site->bind_keepers({.generation = 104,
                                  .keepers = {{vm_of(1), kKeeper2.uid}, {vm_of(2), kKeeper.uid}}},
                                 kLauncher)
                  .ok());
  EXPECT_EQ(site->fetch_key(vm_of(2), kKeeper).error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(site->fetch_key(vm_of(2), kKeeper2).error().code, ErrorCode::kPermission);
  // A list that is refused changes nothing.
  ASSERT_TRUE(site->release(vm_of(1), kDaemon).ok());
  EXPECT_FALSE(
      site->bind_keepers({.generation = 105, .keepers = {{vm_of(1), kDaemon.uid}}}, kLauncher)
          .ok());
  EXPECT_TRUE(site->fetch_key(vm_of(1), kKeeper2).ok());
}

TEST(Keys, of_running_vms_need_no_disk) {
  TestVault site("a");
  site.make(1);
  ASSERT_TRUE(site->release(vm_of(1), kDaemon).ok());
  fs::remove(site.directory + "/key-" + vm_of(1).hex() + ".hfv");
  EXPECT_TRUE(site->fetch_key(vm_of(1), kKeeper).ok());
}

TEST(Keys, are_deleted_only_when_not_released) {
  TestVault site("a");
  site.make(1);
  ASSERT_TRUE(site->release(vm_of(1), kDaemon).ok());
  EXPECT_EQ(site->delete_key(vm_of(1), kDaemon).error().code, ErrorCode::kConflict);
  ASSERT_TRUE(site->revoke(vm_of(1), kDaemon).ok());
  EXPECT_TRUE(site->delete_key(vm_of(1), kDaemon).ok());
  EXPECT_EQ(site->key_info(vm_of(1)).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(site->delete_key(vm_of(1), kDaemon).error().code, ErrorCode::kNotFound);
}

TEST(Keys, certify_the_journal_key_that_the_keeper_derives) {
  TestVault site("a");
  const KeyInfo made = site.make(1);
  ASSERT_TRUE(site->release(vm_of(1), kDaemon).ok());
  const FetchedKey fetched = *site->fetch_key(vm_of(1), kKeeper);
  const auto keys = journal::JournalKeys::derive(fetched.key, vm_of(1), fetched.version);
  EXPECT_EQ(made.journal_public_key, keys.public_key());
  const JournalCertificate expected{.site = site->identity().site,
                                    .vm = vm_of(1),
                                    .version = KeyVersion(1),
                                    .journal_public_key = keys.public_key()};
  EXPECT_EQ(*verify_certificate(made.certificate, site->identity().signing_public_key), expected);
}

TEST(Freshness, is_durable_and_of_one_vm) {
  TestVault site("a");
  site.make(1);
  ASSERT_TRUE(site->release(vm_of(1), kDaemon).ok());
  EXPECT_EQ(*site->get_freshness(vm_of(1), kKeeper), std::nullopt);
  EXPECT_EQ(site->read_freshness(vm_of(1)).error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(site->put_freshness(vm_of(1), freshness_at(5), kKeeper).ok());
  ASSERT_TRUE(site->put_freshness(vm_of(1), freshness_at(6), kKeeper).ok());
  site.reopen();
  EXPECT_EQ(*site->read_freshness(vm_of(1)), freshness_at(6));

  // Another VM's record under this VM's name is not taken for it.
  site.make(2);
  ASSERT_TRUE(site->release(vm_of(2), kDaemon).ok());
  fs::copy_file(site.directory + "/freshness-" + vm_of(1).hex() + ".hfv",
                site.directory + "/freshness-" + vm_of(2).hex() + ".hfv");
  site.reopen();
  EXPECT_EQ(site->read_freshness(vm_of(2)).error().code, ErrorCode::kCorrupt);
}

TEST(Peers, exchange_a_key_and_read_the_same_journal) {
  TestVault a("a");
  TestVault b("b");
  ASSERT_TRUE(a->add_recipient(b->identity(), "", kDaemon).ok());
  ASSERT_TRUE(b->add_recipient(a->identity(), "", kDaemon).ok());
  const KeyInfo at_a = a.make(1);
  ASSERT_TRUE(a->add_member(vm_of(1), b->identity().site, kOperator).ok());
  const Bytes wrap = *a->wrap_for(vm_of(1), b->identity().site, kDaemon);

  EXPECT_EQ(*b->import_wrap(vm_of(1), wrap, kDaemon), ImportOutcome::kStored);
  const Digest after = digest_of(b.directory);
  EXPECT_EQ(*b->import_wrap(vm_of(1), wrap, kDaemon), ImportOutcome::kAlreadyThere);
  EXPECT_EQ(digest_of(b.directory), after);

  const KeyInfo at_b = *b->key_info(vm_of(1));
  EXPECT_EQ(at_b.key_id, at_a.key_id);
  EXPECT_EQ(at_b.minted_at, a->identity().site);
  EXPECT_EQ(at_b.journal_public_key, at_a.journal_public_key);

  // And back: the origin finds its own key there already.
  ASSERT_TRUE(b->add_member(vm_of(1), a->identity().site, kOperator).ok());
  const Bytes back = *b->wrap_for(vm_of(1), a->identity().site, kDaemon);
  EXPECT_EQ(*a->import_wrap(vm_of(1), back, kDaemon), ImportOutcome::kAlreadyThere);
}

TEST(Peers, name_a_conflict_of_two_keys_and_keep_their_own) {
  TestVault a("a");
  TestVault b("b");
  ASSERT_TRUE(a->add_recipient(b->identity(), "", kDaemon).ok());
  ASSERT_TRUE(b->add_recipient(a->identity(), "", kDaemon).ok());
  const KeyInfo at_a = a.make(1);
  // A paired site that made another key up.
  const crypto::SigningKey theirs(crypto::Secret::copy_of(Bytes(32, std::byte{7})));
  TestVault c("c");
  SiteIdentity hostile = c->identity();
  hostile.signing_public_key = theirs.public_key();
  ASSERT_TRUE(a->add_recipient(hostile, "", kDaemon).ok());
  const crypto::Secret other = crypto::Secret::copy_of(Bytes(32, std::byte{9}));
  const auto to = *crypto::SpkiKey::from_pem(a->identity().recipient_public_key_pem);
  const Bytes wrap = *seal_wrap({.vm = at_a.vm,
                                 .key_id = key_id_of(other),
                                 .version = at_a.version,
                                 .from = hostile.site,
                                 .recipient = a->identity().site,
                                 .recipient_key = {},
                                 .time = Micros(1)},
                                other, to, theirs);
  const Digest before = digest_of(a.directory);
  const Error error = a->import_wrap(at_a.vm, wrap, kDaemon).error();
  EXPECT_EQ(error.code, ErrorCode::kConflict);
  EXPECT_NE(error.cause.find(at_a.key_id.hex()), std::string::npos);
  EXPECT_NE(error.cause.find(key_id_of(other).hex()), std::string::npos);
  EXPECT_EQ(digest_of(a.directory), before);
}

TEST(Peers, import_only_from_who_is_pinned_for_the_right_vm_and_site) {
  TestVault a("a");
  TestVault b("b");
  TestVault c("c");
  ASSERT_TRUE(a->add_recipient(b->identity(), "", kDaemon).ok());
  ASSERT_TRUE(a->add_recipient(c->identity(), "", kDaemon).ok());
  a.make(1);
  ASSERT_TRUE(a->add_member(vm_of(1), b->identity().site, kOperator).ok());
  const Bytes for_b = *a->wrap_for(vm_of(1), b->identity().site, kDaemon);
  ASSERT_TRUE(a->add_member(vm_of(1), c->identity().site, kOperator).ok());
  const Bytes for_c = *a->wrap_for(vm_of(1), c->identity().site, kDaemon);
  Digest before = digest_of(b.directory);
  EXPECT_EQ(b->import_wrap(vm_of(1), for_b, kDaemon).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(digest_of(b.directory), before);

  ASSERT_TRUE(b->add_recipient(a->identity(), "", kDaemon).ok());
  before = digest_of(b.directory);
  EXPECT_EQ(b->import_wrap(vm_of(2), for_b, kDaemon).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(b->import_wrap(vm_of(1), for_c, kDaemon).error().code, ErrorCode::kWrongKey);
  for (size_t at = 0; at < for_b.size(); at += 7) {
    Bytes altered = for_b;
    altered[at] ^= std::byte{0x40};
    EXPECT_FALSE(b->import_wrap(vm_of(1), altered, kDaemon).ok()) << at;
  }
  EXPECT_FALSE(b->import_wrap(vm_of(1), ByteSpan(for_b).first(300), kDaemon).ok());
  EXPECT_EQ(digest_of(b.directory), before);
}

TEST(Recipients, are_pinned_once_and_listed) {
  TestVault a("a");
  TestVault b("b");
  TestVault c("c");
  EXPECT_EQ(a->wrap_for(vm_of(1), b->identity().site, kDaemon).error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(a->add_recipient(b->identity(), "", kDaemon).ok());
  const Digest before = digest_of(a.directory);
  EXPECT_TRUE(a->add_recipient(b->identity(), "", kDaemon).ok());
  SiteIdentity other_keys = b->identity();
  other_keys.recipient_public_key_pem = c->identity().recipient_public_key_pem;
  EXPECT_EQ(a->add_recipient(other_keys, "", kDaemon).error().code, ErrorCode::kConflict);
  EXPECT_EQ(a->add_recipient(a->identity(), "", kDaemon).error().code, ErrorCode::kConflict);
  SiteIdentity bad = c->identity();
  bad.ca_certificate_pem = "nonsense";
  EXPECT_FALSE(a->add_recipient(bad, "", kDaemon).ok());
  bad = c->identity();
  bad.recipient_public_key_pem = crypto::KeyPair::generate_rsa(2048).public_key().to_pem();
  EXPECT_EQ(a->add_recipient(bad, "", kDaemon).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(digest_of(a.directory), before);

  ASSERT_TRUE(a->add_recipient(c->identity(), "", kDaemon).ok());
  EXPECT_EQ(a->recipients()->size(), 2u);
  ASSERT_TRUE(a->remove_recipient(b->identity().site, kDaemon).ok());
  EXPECT_EQ(*a->recipients(), std::vector<SiteIdentity>{c->identity()});
  EXPECT_EQ(a->remove_recipient(b->identity().site, kDaemon).error().code, ErrorCode::kNotFound);
}

TEST(Tls, leaves_name_their_site_and_verify_under_its_ca_only) {
  TestVault a("a");
  TestVault b("b");
  const crypto::KeyPair key = crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP256);
  const std::string pem = *a->issue_tls({.common_name = "daemon",
                                         .dns_names = {"host.example"},
                                         .ip_addresses = {"127.0.0.1"},
                                         .key_pem = key.public_key().to_pem()},
                                        kDaemon);
  const auto leaf = *crypto::Certificate::from_pem(pem);
  EXPECT_TRUE(leaf.signed_by(*crypto::Certificate::from_pem(a->identity().ca_certificate_pem)));
  EXPECT_FALSE(leaf.signed_by(*crypto::Certificate::from_pem(b->identity().ca_certificate_pem)));
  EXPECT_EQ(leaf.uris(), std::vector<std::string>{"holdfast:site:" + a->identity().site.hex()});
  EXPECT_EQ(a->issue_tls({.common_name = "x", .key_pem = "no key"}, kDaemon).error().code,
            ErrorCode::kInvalidArgument);
}

TEST(EkCertificates, are_issued_to_a_released_keeper_for_the_kind_named) {
  TestVault site("a");
  const crypto::KeyPair ek = crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP384);
  const Bytes spki = ek.public_key().to_der();
  site.make(1);
  EXPECT_EQ(site->issue_ek_certificate(vm_of(1), EkKind::kEccP384, spki, kKeeper).error().code,
            ErrorCode::kUnavailable);
  ASSERT_TRUE(site->release(vm_of(1), kDaemon).ok());
  const Bytes der = *site->issue_ek_certificate(vm_of(1), EkKind::kEccP384, spki, kKeeper);
  const auto certificate = *crypto::Certificate::from_der(der);
  EXPECT_EQ(certificate.public_key()->to_der(), spki);
  EXPECT_TRUE(
      certificate.signed_by(*crypto::Certificate::from_pem(site->identity().ca_certificate_pem)));
  EXPECT_EQ(site->issue_ek_certificate(vm_of(1), EkKind::kRsa2048, spki, kKeeper).error().code,
            ErrorCode::kInvalidArgument);
}

TEST(EkCertificates, are_not_issued_in_a_loop) {
  TestVault site("a");
  const Bytes spki = crypto::KeyPair::generate_ec(crypto::KeyKind::kEcP384).public_key().to_der();
  site.make(1);
  ASSERT_TRUE(site->release(vm_of(1), kDaemon).ok());
  Status issued;
  for (int i = 0; i < 20 && issued.ok(); ++i) {
    const auto certificate = site->issue_ek_certificate(vm_of(1), EkKind::kEccP384, spki, kKeeper);
    if (!certificate.ok()) issued = certificate.error();
  }
  ASSERT_FALSE(issued.ok());
  EXPECT_EQ(issued.error().code, ErrorCode::kLimit);
  site.clock.mono.value += 600'000'000;
  EXPECT_TRUE(site->issue_ek_certificate(vm_of(1), EkKind::kEccP384, spki, kKeeper).ok());
}

std::string base64(ByteSpan bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t at = 0; at + 3 <= bytes.size(); at += 3) {
    const uint32_t bits = static_cast<uint32_t>(bytes[at]) << 16 |
                          static_cast<uint32_t>(bytes[at + 1]) << 8 |
                          static_cast<uint32_t>(bytes[at + 2]);
    for (int shift = 18; shift >= 0; shift -= 6) out += kDigits[bits >> shift & 63];
  }
  return out;  // whole groups only: what is searched for anyway
}

bool holds(ByteSpan haystack, ByteSpan key) {
  const std::string_view text = as_text(haystack);
  std::string upper = to_hex(key);
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  return text.find(as_text(key)) != std::string_view::npos ||
         text.find(to_hex(key)) != std::string_view::npos ||
         text.find(upper) != std::string_view::npos ||
         text.find(base64(key)) != std::string_view::npos;
}

TEST(Custody, no_file_of_either_vault_and_no_wrap_holds_the_key) {
  TestVault a("a");
  TestVault b("b");
  ASSERT_TRUE(a->add_recipient(b->identity(), "", kDaemon).ok());
  ASSERT_TRUE(b->add_recipient(a->identity(), "", kDaemon).ok());
  a.make(1);
  ASSERT_TRUE(a->add_member(vm_of(1), b->identity().site, kOperator).ok());
  const Bytes wrap = *a->wrap_for(vm_of(1), b->identity().site, kDaemon);
  ASSERT_TRUE(b->import_wrap(vm_of(1), wrap, kDaemon).ok());
  ASSERT_TRUE(a->release(vm_of(1), kDaemon).ok());
  const FetchedKey fetched = *a->fetch_key(vm_of(1), kKeeper);
  ASSERT_TRUE(a->put_freshness(vm_of(1), freshness_at(3), kKeeper).ok());
  const ByteSpan key = fetched.key.span();

  int files = 0;
  for (const std::string& directory : {a.directory, b.directory}) {
    for (const auto& entry : fs::directory_iterator(directory)) {
      EXPECT_FALSE(holds(read_file(entry.path().string()), key)) << entry.path();
      ++files;
    }
  }
  EXPECT_GE(files, 10);
  EXPECT_FALSE(holds(wrap, key));
  // The search can find it in each of its forms.
  EXPECT_TRUE(holds(key, key));
  EXPECT_TRUE(holds(as_bytes("x" + to_hex(key)), key));
  EXPECT_TRUE(holds(as_bytes("x" + base64(key)), key));
}

TEST(Audit, records_what_was_done_with_keys_in_an_unbroken_chain) {
  TestVault site("a");
  site.make(1);
  EXPECT_FALSE(site->fetch_key(vm_of(1), kKeeper2).ok());
  ASSERT_TRUE(site->release(vm_of(1), kDaemon).ok());
  ASSERT_TRUE(site->fetch_key(vm_of(1), kKeeper).ok());
  site.reopen();
  site.make(2);
  const Bytes log = read_file(site.directory + "/audit.log");
  const std::string text(as_text(log));
  EXPECT_EQ(verify_audit_log(text)->lines, 6u);
  for (const char* event :
       {"vault_created", "create_vm", "release", "fetch_key", "\"outcome\":\"refused\""}) {
    EXPECT_NE(text.find(event), std::string::npos) << event;
  }
}

// A day of a keeper that fetches its key in a loop, and one that asks for another's.
TEST(Audit, is_not_filled_by_a_keeper_that_asks_in_a_loop) {
  TestVault site("a");
  site.make(1);
  ASSERT_TRUE(site->release(vm_of(1), kDaemon).ok());
  const uint64_t before = fs::file_size(site.directory + "/audit.log");
  for (int i = 0; i < 86'400; ++i) {
    ASSERT_TRUE(site->fetch_key(vm_of(1), kKeeper).ok());
    ASSERT_FALSE(site->fetch_key(vm_of(1), kKeeper2).ok());
    site.clock.mono.value += 1'000'000;
  }
  EXPECT_LT(fs::file_size(site.directory + "/audit.log") - before, 160u << 10);
  const std::string text(as_text(read_file(site.directory + "/audit.log")));
  EXPECT_TRUE(verify_audit_log(text).ok());
  EXPECT_NE(text.find("\"left_out\":599,\"outcome\":\"ok\""), std::string::npos);
  EXPECT_NE(text.find("\"left_out\":599,\"outcome\":\"refused\""), std::string::npos);
}

}  // namespace
}  // namespace hf::vault
