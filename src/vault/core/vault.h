// The vault proper: a site's keys and what may be done with them. No sockets here (service.h) and
// no waiting but for the disk: the files are small and changed rarely.
//
// Owns its directory (locked) and all key bytes in clear. One thread. After an error nothing has
// changed, unless the error says otherwise.
//
// Rules it keeps:
//   - a VM's attestation key is pinned once; another one is refused until the pin is given up;
//   - a key is made with its VM's title, whose id nobody chooses: never over existing state;
//   - a key goes to a keeper only where the title says that this site holds the VM, and its line is
//     opened for writing only when the others were asked (title/judge.h): the daemon proposes;
//   - at rest a key exists only sealed under the KEK; it leaves only wrapped to a recipient that an
//     operator has named for that VM, or to its VM's keeper while it is released: that it may have
//     it the daemon says, which user it is the launcher says, and neither can say the other;
//   - what the attestation key signs is a verdict that is put into words here, nothing else;
//   - who is a recipient is an operator's word, proved by the other site: not the daemon's;
//   - what changes keys or hands them on is in the audit log before it happens.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "vault/core/keeper_table.h"
#include "vault/core/titles.h"
#include "vault/protocol/types.h"
#include "vault/protocol/verdict_claims.h"
#include "vault/store/audit.h"
#include "vault/store/directory.h"
#include "vault/store/event_limiter.h"
#include "vault/store/sealed_file.h"
#include "vault/store/site_file.h"

namespace hf::vault {

// What check() found; every file counted was read and authenticated.
struct CheckSummary {
  uint64_t keys = 0;
  uint64_t recipients = 0;
  uint64_t titles = 0;
  uint64_t freshness_records = 0;
  uint64_t attestation_records = 0;
  uint64_t pairing_tokens = 0;
  uint64_t member_records = 0;
  AuditSummary audit;
  std::vector<std::string> problems;  // one line each: the file and what is wrong with it
};

// Who asks, as the kernel says (SO_PEERCRED).
struct Caller {
  uint32_t uid = 0;
  int32_t pid = 0;
};

class Vault {
 public:
  struct Options {
    std::string directory;
    SiteSecret secret;
    std::optional<UidRange> keepers = {};  // reserved for them; nullopt: the site has one user
  };

  // Creates `directory` if it is missing (0700). kExists: there is a vault, or anything else, in
  // it.
  static Result<SiteIdentity> init(const Options& options, const std::string& name, Clock& clock,
                                   Rng& rng);
  static Result<std::unique_ptr<Vault>> open(const Options& options, Clock& clock, Rng& rng);

  const SiteIdentity& identity() const { return site_.identity; }
  UnlockKind unlock() const { return site_.unlock; }

  // Reads every file of the directory and the whole audit log; changes nothing.
  Result<CheckSummary> check() const;

  // For the daemon; see AdminClient for what each promises.
  Result<std::string> issue_tls(const TlsRequest& request, const Caller& caller);
  // A VM of this site: its title, and its key. Its id is what comes of it.
  Result<KeyInfo> create_vm(const Caller& caller);
  Result<KeyInfo> key_info(const VmId& vm) const;
  Status release(const VmId& vm, const Caller& caller);
  Status revoke(const VmId& vm, const Caller& caller);
  Status delete_key(const VmId& vm, const Caller& caller);
  Result<Digest> prove_pairing(const PairingTokenId& id, const Digest& context) const;
  Result<std::string> check_pairing(const PairingProof& said, const Caller& caller);
  Result<std::string> accept_pairing(const PairingProof& said, const Caller& caller);
  Result<std::vector<SiteIdentity>> recipients() const;
  Result<Bytes> wrap_for(const VmId& vm, const SiteId& recipient, const Caller& caller);
  Result<ImportOutcome> import_wrap(const VmId& vm, ByteSpan blob, const Caller& caller);
  Result<Freshness> read_freshness(const VmId& vm) { return titles_.freshness(vm); }  // kNotFound
  Result<AttestationChallenge> attestation_enroll(const VmId& vm, ByteSpan ek_public,
                                                  ByteSpan ek_certificate, ByteSpan ak_public,
                                                  const Caller& caller);
  Result<AttestationPin> attestation_certify(const VmId& vm, const ChallengeId& challenge,
                                             ByteSpan secret, const Caller& caller);
  Result<AttestationPin> attestation_pinned(const VmId& vm) const;
  Result<AttestationPin> attestation_adopt(const VmId& vm, std::string_view certificate_pem,
                                           ByteSpan ak_public, const Caller& caller);
  Status attestation_forget(const VmId& vm, const Caller& caller);
  Result<std::string> attestation_sign(const VerdictClaims& claims, const Caller& caller);
  Result<std::string> attestation_keys(const Caller& caller);

  Result<TitleView> title(const VmId& vm) { return titles_.view(vm); }
  Result<std::vector<Digest>> title_known(const VmId& vm) { return titles_.known(vm); }
  Result<Bytes> title_lacking(const VmId& vm, std::span<const Digest> known) {
    return titles_.lacking(vm, known);
  }
  Result<TitleLearned> title_learn(const VmId& vm, const SiteId& from, ByteSpan bundle, bool begin,
                                   const Caller& caller);
  Result<title::Question> title_ask(const VmId& vm, const SiteId& to) {
    return titles_.ask(vm, to);
  }
  Result<Bytes> title_answer(const title::Question& question, const OwnWord& word);
  Result<title::Judged<void>> title_take_answer(const VmId& vm, ByteSpan answer);
  Result<TitleSigned> title_propose(const TitleProposal& proposal, const Caller& caller);

  // For operators; see OperatorClient.
  Result<GivenWord> give_word(const VmId& vm, title::Act act, const Caller& caller);
  Result<PairingOffer> offer_pairing(uint32_t life_s, const std::string& name,
                                     const Caller& caller);
  Result<PairingTokenId> confirm_pairing(const PairingConfirmation& word, const Caller& caller);
  Result<std::vector<Recipient>> pinned_recipients() const;
  Status remove_recipient(const SiteId& site, const Caller& caller);
  Result<bool> add_member(const VmId& vm, const SiteId& site, const Caller& caller);
  Status remove_member(const VmId& vm, const SiteId& site, const Caller& caller);
  Status clear_members(const VmId& vm, const Caller& caller);

  // What a pairing comes to; no socket offers it as such. The same again: no change but the name's;
  // another: kConflict. `name`: empty: as it is called already, or else as it calls itself.
  Status add_recipient(const SiteIdentity& peer, const std::string& name, const Caller& caller);

  // For the launcher. A VM whose keeper is in the list no more, or has another user, is not
  // released any more.
  Status bind_keepers(const KeeperBindings& bindings, const Caller& caller);
  bool is_keeper(uint32_t uid) const { return keepers_.is_keeper(uid); }
  // Now or one day.
  bool may_be_keeper(uint32_t uid) const { return keepers_.may_be_keeper(uid); }

  // For keepers: kPermission unless the caller's uid is bound to `vm`; all but show_line() and the
  // sessions' kUnavailable while it is not released.
  Result<FetchedKey> fetch_key(const VmId& vm, const Caller& caller);
  Status put_freshness(const VmId& vm, const Freshness& freshness, const Caller& caller);
  Result<std::optional<Freshness>> get_freshness(const VmId& vm, const Caller& caller);
  Result<Bytes> issue_ek_certificate(const VmId& vm, EkKind kind, ByteSpan public_key,
                                     const Caller& caller);
  Result<std::optional<Bytes>> attestation_pinned_name(const VmId& vm, const Caller& caller);
  // The line may be opened for writing now. kConflict: the title says otherwise. kUnavailable: not
  // yet; whoever started the keeper asks the other sites.
  Status open_gate(const VmId& vm, const Caller& caller);
  Status show_line(const VmId& vm, ShownLine line, const Caller& caller);
  Result<crypto::Signature> session_sign(const VmId& vm, ByteSpan statement, const Caller& caller);
  Status session_check(const VmId& vm, const SiteId& peer, ByteSpan statement,
                       const crypto::Signature& signature, const Caller& caller);

 private:
  // A key with what its file says about it.
  struct StoredKey {
    crypto::Secret key;
    KeyVersion version;
    KeyId key_id;
    SiteId minted_at;
    Micros created;
    crypto::PublicKey journal_public_key{};
  };
  // What is known of a VM's vTPM: its endorsement key since manufacture, its AK since enrolment.
  struct AttestationRecord {
    Digest ek_fingerprint;  // SHA-256 of the SubjectPublicKeyInfo; zero: made elsewhere, or before
    std::optional<AttestationPin> pin;
  };
  // An enrolment under way; in memory only.
  struct Challenge {
    VmId vm;
    Bytes ak_public;
    Digest ek_fingerprint;
    crypto::Secret secret;
    Micros begun;  // monotonic
  };
  struct AttestationKey {
    crypto::KeyPair key;
    crypto::Certificate certificate;
  };

  Vault(const Options& options, Directory directory, SiteKeys site, AuditLog audit, Clock& clock,
        Rng& rng);

  // A token that was made here, as it is stored.
  struct StoredOffer {
    Micros expires;       // wall time
    std::string name;     // of the site that will use it; empty: its own
    std::string used_by;  // then there is no key any more
    crypto::Secret key;   // of the proofs
  };
  // An operator's word about a token of another site; in memory only.
  struct ConfirmedPairing {
    SiteId site;
    Digest ca_fingerprint;
    Digest identity;
    std::string name;
    crypto::Secret key;
    Micros begun;  // monotonic
  };

  Result<StoredKey> load_key(const VmId& vm) const;
  Status store_key(const VmId& vm, const StoredKey& stored);
  KeyInfo info_of(const VmId& vm, const StoredKey& stored) const;
  Result<SiteIdentity> load_recipient(const SiteId& site) const;
  Result<Recipient> load_recipient_file(const SiteId& site) const;
  Result<bool> is_pinned(const SiteIdentity& peer) const;
  // What that site is, or will be, called here: no other recipient is.
  Result<std::string> name_for(const SiteIdentity& peer, const std::string& wanted,
                               std::string_view mend) const;
  Result<std::vector<Digest>> load_members(const VmId& vm) const;  // empty if there are none
  Result<bool> is_member(const VmId& vm, const SiteId& site) const;
  Status store_members(const VmId& vm, const std::vector<Digest>& members);
  Status store_offer(const PairingTokenId& id, const StoredOffer& offer);
  Result<StoredOffer> load_offer(const PairingTokenId& id) const;
  Result<StoredOffer> usable_offer(const PairingTokenId& id) const;
  // kExpired: what has expired is of no use to anyone but a thief; how many are left. kAll: those
  // that are not used yet, too.
  enum class DropOffers : uint8_t { kExpired, kAll };
  Result<size_t> drop_offers(DropOffers which);
  void forget_member(const SiteIdentity& peer);
  // nullptr: none, or too old.
  const ConfirmedPairing* confirmed_word(const PairingTokenId& id) const;
  void audit_pairing_refusal(const SiteId& site, const Caller& caller);
  Status check_keeper(const VmId& vm, const Caller& caller, std::string_view event);
  Result<const StoredKey*> released_to(const VmId& vm, const Caller& caller,
                                       std::string_view event);
  Result<const title::Ed25519Verifier*> verifier();
  void take_back(const VmId& vm, const Caller& caller);
  Status forget_oldest_titles(const VmId& but, const Caller& caller);
  void audit_refusal(const VmId& vm, const Caller& caller, std::string_view event);

  Result<AttestationRecord> load_attestation(const VmId& vm) const;  // empty if there is none
  Status store_attestation(const VmId& vm, const AttestationRecord& record);
  Status note_endorsement_key(const VmId& vm, const crypto::SpkiKey& ek);
  Status check_endorsement_key(const VmId& vm, const crypto::SpkiKey& ek,
                               ByteSpan certificate) const;
  Status refuse_another_key(const VmId& vm, const AttestationRecord& record, ByteSpan name,
                            const Caller& caller, std::string_view event);
  Result<const AttestationKey*> attestation_key(const Caller& caller);
  Result<AttestationKey> load_attestation_key() const;
  Result<AttestationKey> make_attestation_key(const Caller& caller);

  Directory directory_;
  SiteKeys site_;
  AuditLog audit_;
  Clock& clock_;
  Rng& rng_;
  KeeperTable keepers_;
  std::map<VmId, StoredKey> released_;  // cached: a keeper restarts without disk or passphrase
  // Whose keeper has had the key, or may have, and is not known to be dead.
  std::set<VmId> handed_out_;
  title::Ed25519Signer signer_;
  Titles titles_;
  std::optional<title::Ed25519Verifier> verifier_;  // of the recipients that there are
  std::map<ChallengeId, Challenge> challenges_;
  std::map<PairingTokenId, ConfirmedPairing> confirmed_;
  std::optional<AttestationKey> attestation_key_;  // once it was needed
  EventLimiter<VmId> fetches_;
  EventLimiter<VmId> certificates_;
  EventLimiter<uint32_t> refusals_;  // by the caller's uid
};

}  // namespace hf::vault
