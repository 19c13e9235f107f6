// Who becomes a recipient, and that the daemons in between can't make one.

#include "vault/core/testing.h"
#include "vault/protocol/pairing_token.h"

namespace hf::vault {
namespace {

using namespace testing;  // NOLINT

PairingConfirmation word_for(const PairingOffer& offer) {
  return {.site = offer.identity.site,
          .ca_fingerprint =
              crypto::Certificate::from_pem(offer.identity.ca_certificate_pem)->fingerprint(),
          .identity = identity_digest(offer.identity),
          .secret = offer.secret.clone(),
          .name = ""};
}

Digest context() { return crypto::sha256(as_bytes("a connection")); }

// What a daemon carries from `from` to the other site.
PairingProof said_by(TestVault& from, const PairingTokenId& token) {
  return {.token = token,
          .context = context(),
          .peer = from->identity(),
          .proof = *from->prove_pairing(token, context())};
}

// As whoever knows the secret makes it, for whatever identity.
Digest forged(const crypto::Secret& secret, std::string_view role, const SiteIdentity& identity) {
  const crypto::Secret key =
      crypto::hkdf_sha256(secret.span(), as_bytes("holdfast"), "holdfast pairing proof v2", 32);
  Bytes message(as_bytes(role).begin(), as_bytes(role).end());
  const Digest about = context();
  const Digest who = identity_digest(identity);
  message.insert(message.end(), about.bytes.begin(), about.bytes.end());
  message.insert(message.end(), who.bytes.begin(), who.bytes.end());
  return crypto::hmac_sha256(key.span(), message);
}

class Pairing : public ::testing::Test {
 protected:
  PairingOffer offer(uint32_t life_s = 60) { return *a_->offer_pairing(life_s, "", kOperator); }
  ErrorCode accepted_by_a(const PairingProof& said) {
    const Result<std::string> done = a_->accept_pairing(said, kDaemon);
    return done.ok() ? ErrorCode::kInternal : done.error().code;
  }

  TestVault a_{"a"};  // issues tokens
  TestVault b_{"b"};  // bears them
};

TEST_F(Pairing, makes_each_site_a_recipient_of_the_other_once_both_operators_have_said_so) {
  const PairingOffer token = *a_->offer_pairing(60, "left", kOperator);
  PairingConfirmation word = word_for(token);
  word.name = "right";
  const PairingTokenId id = *b_->confirm_pairing(word, kOperator);
  EXPECT_EQ(id, token_id_of(token.secret));
  const PairingProof bearer = said_by(b_, id);
  ASSERT_TRUE(a_->check_pairing(bearer, kDaemon).ok());
  EXPECT_TRUE(a_->recipients()->empty());
  ASSERT_TRUE(b_->accept_pairing(said_by(a_, id), kDaemon).ok());
  ASSERT_TRUE(a_->accept_pairing(bearer, kDaemon).ok());
  EXPECT_EQ(*a_->pinned_recipients(), (std::vector<Recipient>{{b_->identity(), "left"}}));
  EXPECT_EQ(*b_->pinned_recipients(), (std::vector<Recipient>{{a_->identity(), "right"}}));

  // Once.
  const Error again = a_->check_pairing(bearer, kDaemon).error();
  EXPECT_EQ(again.code, ErrorCode::kConflict);
  EXPECT_NE(again.cause.find("used before, by b"), std::string::npos) << again.cause;
  const std::string log(as_text(read_file(a_.directory + "/audit.log")));
  EXPECT_NE(log.find("offer_pairing"), std::string::npos);
  EXPECT_NE(log.find("add_recipient"), std::string::npos);
}

TEST_F(Pairing, makes_no_recipient_of_who_has_not_the_token) {
  TestVault c("c");
  PairingProof said{.token = {}, .context = context(), .peer = c->identity(), .proof = {}};
  EXPECT_EQ(accepted_by_a(said), ErrorCode::kNotFound);  // no operator has made one
  const PairingOffer token = offer();
  said.token = token_id_of(token.secret);
  EXPECT_EQ(accepted_by_a(said), ErrorCode::kWrongKey);
  // What the vault itself proves, and what the other site proved, is for nobody else.
  said.proof = *a_->prove_pairing(said.token, context());
  EXPECT_EQ(accepted_by_a(said), ErrorCode::kWrongKey);
  ASSERT_TRUE(b_->confirm_pairing(word_for(token), kOperator).ok());
  const PairingProof good = said_by(b_, said.token);
  said.proof = good.proof;
  EXPECT_EQ(accepted_by_a(said), ErrorCode::kWrongKey);
  PairingProof altered = good;
  altered.peer.recipient_public_key_pem = c->identity().recipient_public_key_pem;
  EXPECT_EQ(accepted_by_a(altered), ErrorCode::kWrongKey);
  altered = good;
  altered.context = crypto::sha256(as_bytes("another connection"));
  EXPECT_EQ(accepted_by_a(altered), ErrorCode::kWrongKey);
  EXPECT_TRUE(a_->recipients()->empty());
  const std::string log(as_text(read_file(a_.directory + "/audit.log")));
  EXPECT_NE(log.find("\"event\":\"add_recipient\""), std::string::npos);
  EXPECT_NE(log.find("\"outcome\":\"refused\""), std::string::npos);
  // None of it has used the token up.
  EXPECT_EQ(accepted_by_a(good), ErrorCode::kInternal);
}

// Also for who knows the secret, the operator's hand has brought which keys the issuer has.
TEST_F(Pairing, bears_a_token_for_those_keys_only_that_it_names) {
  const PairingOffer token = offer();
  const PairingTokenId id = *b_->confirm_pairing(word_for(token), kOperator);
  TestVault c("c");
  SiteIdentity other = a_->identity();
  other.recipient_public_key_pem = c->identity().recipient_public_key_pem;
  for (const SiteIdentity& peer : {other, c->identity()}) {
    const Result<std::string> done =
        b_->accept_pairing({.token = id,
                            .context = context(),
                            .peer = peer,
                            .proof = forged(token.secret, "issuer", peer)},
                           kDaemon);
    EXPECT_EQ(done.error().code, ErrorCode::kWrongKey);
  }
  EXPECT_TRUE(b_->recipients()->empty());
  // So it is proved that the two above had the right form.
  EXPECT_TRUE(b_->accept_pairing({.token = id,
                                  .context = context(),
                                  .peer = a_->identity(),
                                  .proof = forged(token.secret, "issuer", a_->identity())},
                                 kDaemon)
                  .ok());
}

// An operator names a site by that: `protection enable VM --to NAME`.
TEST_F(Pairing, calls_a_site_as_the_operator_does_and_no_two_alike) {
  auto pair = [&](const SiteIdentity& peer, const std::string& name) {
    const PairingOffer token = *a_->offer_pairing(60, name, kOperator);
    return a_->accept_pairing({.token = token_id_of(token.secret),
                               .context = context(),
                               .peer = peer,
                               .proof = forged(token.secret, "bearer", peer)},
                              kDaemon);
  };
  const SiteIdentity b = b_->identity();
  EXPECT_EQ(*pair(b, ""), "b");
  TestVault c("c");
  SiteIdentity other = c->identity();
  other.name = "b";
  const Result<std::string> alike = pair(other, "");
  ASSERT_FALSE(alike.ok()) << "a site cannot pass for another by what it calls itself";
  EXPECT_EQ(alike.error().code, ErrorCode::kExists);
  EXPECT_TRUE(alike.error().mend.contains("--new-token --name NAME")) << alike.error().mend;
  EXPECT_EQ(a_->recipients()->size(), 1U);
  EXPECT_EQ(*pair(other, "far-b"), "far-b");
  EXPECT_FALSE(pair(b, "far-b").ok()) << "nor by being paired again";
  EXPECT_EQ(*pair(b, "old-b"), "old-b");
  EXPECT_EQ(*pair(b, ""), "old-b") << "it keeps its name";
  std::vector<std::string> names;
  for (const Recipient& one : *a_->pinned_recipients()) names.push_back(one.name);
  std::ranges::sort(names);
  EXPECT_EQ(names, (std::vector<std::string>{"far-b", "old-b"}));
  TestVault d("d");
  SiteIdentity like_an_id = d->identity();
  like_an_id.name = b.site.hex();
  EXPECT_EQ(pair(like_an_id, "").error().code, ErrorCode::kInvalidArgument);
  for (const std::string& bad : {std::string("-b"), std::string(32, '0')})
    EXPECT_FALSE(a_->offer_pairing(60, bad, kOperator).ok()) << bad;
}

TEST_F(Pairing, ends_with_all_that_was_said_for_the_site) {
  const PairingOffer token = offer();
  const PairingTokenId id = *b_->confirm_pairing(word_for(token), kOperator);
  const PairingOffer unused = offer();
  ASSERT_TRUE(a_->accept_pairing(said_by(b_, id), kDaemon).ok());
  const VmId vm = a_.make(1).vm;
  ASSERT_TRUE(*a_->add_member(vm, b_->identity().site, kOperator));
  ASSERT_TRUE(a_->wrap_for(vm, b_->identity().site, kDaemon).ok());

  ASSERT_TRUE(a_->remove_recipient(b_->identity().site, kOperator).ok());
  const PairingTokenId left = *b_->confirm_pairing(word_for(unused), kOperator);
  EXPECT_EQ(a_->accept_pairing(said_by(b_, left), kDaemon).error().code, ErrorCode::kNotFound)
      << "a token from before";
  EXPECT_EQ(a_->accept_pairing(said_by(b_, id), kDaemon).error().code, ErrorCode::kConflict)
      << "that one was used";
  const PairingOffer again = offer();
  const PairingTokenId anew = *b_->confirm_pairing(word_for(again), kOperator);
  ASSERT_TRUE(a_->accept_pairing(said_by(b_, anew), kDaemon).ok());
  EXPECT_EQ(a_->wrap_for(vm, b_->identity().site, kDaemon).error().code, ErrorCode::kPermission)
      << "what was said before it was unpaired holds no more";
}

TEST_F(Pairing, does_not_make_a_site_its_own_recipient) {
  const PairingOffer token = offer();
  EXPECT_EQ(a_->confirm_pairing(word_for(token), kOperator).error().code,
            ErrorCode::kInvalidArgument);
  const PairingTokenId id = token_id_of(token.secret);
  EXPECT_EQ(accepted_by_a({.token = id,
                           .context = context(),
                           .peer = a_->identity(),
                           .proof = forged(token.secret, "bearer", a_->identity())}),
            ErrorCode::kConflict);
}

TEST_F(Pairing, token_outlasts_the_vaults_process_but_not_its_time) {
  const PairingOffer token = offer();
  const PairingTokenId id = *b_->confirm_pairing(word_for(token), kOperator);
  a_.reopen();
  const PairingProof bearer = said_by(b_, id);
  EXPECT_TRUE(a_->check_pairing(bearer, kDaemon).ok());
  EXPECT_EQ(a_->check()->pairing_tokens, 1u);
  EXPECT_TRUE(a_->check()->problems.empty());
  a_.clock.wall.value += uint64_t{60} * 1'000'000;
  const Error late = a_->check_pairing(bearer, kDaemon).error();
  EXPECT_EQ(late.code, ErrorCode::kConflict);
  EXPECT_NE(late.cause.find("expired"), std::string::npos) << late.cause;
  // The next one sweeps it away.
  offer();
  EXPECT_EQ(a_->check()->pairing_tokens, 1u);
  EXPECT_EQ(a_->check_pairing(bearer, kDaemon).error().code, ErrorCode::kNotFound);
}

TEST_F(Pairing, word_of_the_bearers_operator_lasts_ten_minutes) {
  const PairingOffer token = offer(3600);
  const PairingTokenId id = *b_->confirm_pairing(word_for(token), kOperator);
  const PairingProof issuer = said_by(a_, id);
  b_.clock.mono.value += uint64_t{601} * 1'000'000;
  EXPECT_EQ(b_->accept_pairing(issuer, kDaemon).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(b_->recipients()->empty());
}

TEST_F(Pairing, tokens_are_bounded_in_number_and_time) {
  EXPECT_EQ(a_->offer_pairing(0, "", kOperator).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(a_->offer_pairing(kMaxPairingLife + 1, "", kOperator).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(a_->offer_pairing(60, "a b", kOperator).error().code, ErrorCode::kInvalidArgument);
  Status made;
  int count = 0;
  for (; count < 100 && made.ok(); ++count) {
    const auto one = a_->offer_pairing(60, "", kOperator);
    if (!one.ok()) made = one.error();
  }
  EXPECT_EQ(made.error().code, ErrorCode::kLimit);
  EXPECT_EQ(count, 33);
}

TEST_F(Pairing, token_is_in_no_file_in_clear) {
  const PairingOffer token = offer();
  for (const auto& entry : fs::directory_iterator(a_.directory)) {
    const Bytes bytes = read_file(entry.path().string());
    EXPECT_TRUE(std::ranges::search(bytes, token.secret.span()).empty()) << entry.path();
  }
}

}  // namespace
}  // namespace hf::vault
