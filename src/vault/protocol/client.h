// Clients of holdfast-vault. Every call opens its own connection, asks one question, and is over
// after at most `timeout`, whatever the vault does: there is no connection to go stale when the
// vault is restarted, and any thread may call. Blocking: from an event loop use a worker thread.
//
// Errors of every call: kUnavailable (no vault there; safe to try again), kTimeout (for a changing
// call: the outcome is unknown; all changing calls are idempotent or say kExists), and the vault's
// own, passed on with cause, effect and mend as the vault wrote them.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "vault/protocol/protocol.h"
#include "vault/protocol/titles.h"
#include "vault/protocol/types.h"
#include "vault/protocol/verdict_claims.h"

namespace hf::vault {

struct ClientOptions {
  std::string socket_path;
  std::chrono::milliseconds timeout{5000};
};

// How long a keeper that was started waits for its release.
inline constexpr std::chrono::milliseconds kReleaseLimit{5'000};
// And then for the other sites' answers.
inline constexpr std::chrono::milliseconds kGateLimit{20'000};

// The daemon's side ("vault-admin"): the vault answers only the uid it was started for. Never
// receives a key in clear.
class AdminClient {
 public:
  explicit AdminClient(ClientOptions options) : options_(std::move(options)) {}

  Result<SiteIdentity> site_identity();
  // The leaf certificate, PEM: signed by the site's CA, for server and client authentication, with
  // the site in a SAN URI "holdfast:site:HEX".
  Result<std::string> issue_tls(const TlsRequest& request);

  // A VM of this site: its title and its key. Its id is the digest of its title's first statement.
  Result<KeyInfo> create_vm();
  Result<KeyInfo> key_info(VmId vm);  // kNotFound
  // A standing permission, kept in the vault's memory only: the VM's keeper may fetch the key until
  // revoke(), the keeper's end or the vault's. After a vault's restart the daemon releases its
  // running VMs again. Which user the keeper is, the launcher has said as it started it: kConflict
  // before that, and where the title names another site as the VM's holder.
  Status release(VmId vm);
  Status revoke(VmId vm);  // also forgets the cached key; no error if nothing was released
  Status delete_key(
      VmId vm);  // With its title. kConflict while released. The VM's data cannot be read after it.

  // Pairing, which operators have begun by offer_pairing() at one site and confirm_pairing() at the
  // other (operator_client.h). `context` ties a proof to the daemons' connection.
  Result<Digest> prove_pairing(PairingTokenId token, const Digest& context);  // who this site is
  // Whether it is the other site that has the token; what that is called here: as the operator
  // said, or as it calls itself. kWrongKey; kConflict: the token was used, or has expired; kExists:
  // another site is called so; kNotFound.
  Result<std::string> check_pairing(const PairingProof& said);
  // The same, and makes it a recipient: the token works no second time. The same site again: no
  // change; with other keys: kConflict.
  Result<std::string> accept_pairing(const PairingProof& said);
  Result<std::vector<SiteIdentity>> recipients();

  Result<Bytes> wrap_for(VmId vm,
                         SiteId recipient);  // a signed wrap (wrap.h), for import_wrap() there
  // kWrongKey: not signed by a pinned site, or not for this site. kConflict: the vault holds
  // another key for this VM (both ids are named).
  Result<ImportOutcome> import_wrap(VmId vm, ByteSpan wrap);

  Result<Freshness> read_freshness(VmId vm);  // kNotFound: none was ever reported

  // Enrolment of a VM's attestation key (AK), in two steps with the vTPM between them: what
  // enroll() returns goes to the keeper's "activate_credential", its answer to certify().
  // `ek_public` and `ak_public`: TPM2B_PUBLIC or TPMT_PUBLIC. `ek_certificate`: DER, by this site's
  // CA or a paired one's. kWrongKey: not an endorsement key of this VM. kConflict: another AK is
  // pinned. kInvalidArgument: not a key that can only sign what its TPM made. kNotFound: no such
  // VM.
  Result<AttestationChallenge> attestation_enroll(VmId vm, ByteSpan ek_public,
                                                  ByteSpan ek_certificate, ByteSpan ak_public);
  // One try a challenge, within kChallengeLife. Pins the AK and certifies it: subject key = AK, SAN
  // URI "holdfast:vm:HEX", signed by the site's CA. kNotFound: no such challenge (any more).
  // kWrongKey: not the secret.
  Result<AttestationPin> attestation_certify(VmId vm, ChallengeId challenge, ByteSpan secret);
  Result<AttestationPin> attestation_pinned(VmId vm);  // kNotFound: none is enrolled
  // Pins an AK that a paired site has certified for this VM. The same again: no change.
  Result<AttestationPin> attestation_adopt(VmId vm, std::string_view certificate_pem,
                                           ByteSpan ak_public);
  // Gives a VM's pinned AK up, for a VM that got another vTPM on purpose. kNotFound.
  Status attestation_forget(VmId vm);

  // Titles: who may run a VM (vault/core/titles.h says what each does).
  Result<TitleView> title(VmId vm);  // kNotFound
  Result<Bytes> title_lacking(VmId vm, std::span<const Digest> known);
  Result<TitleLearned> title_learn(VmId vm, SiteId from, ByteSpan bundle, bool begin);
  Result<title::Question> title_ask(VmId vm, SiteId to);
  Result<Bytes> title_answer(const title::Question& question, OwnWord word);
  Result<title::Judged<void>> title_take_answer(VmId vm, ByteSpan answer);
  Result<TitleSigned> title_propose(const TitleProposal& proposal);

  // The verdict as a token (EAR in a JWS, ES256), which the vault puts into words and signs with
  // the site's attestation key; that is made at its first use. kInvalidArgument.
  Result<std::string> attestation_sign(const VerdictClaims& claims);
  // The public side: a JWK Set (RFC 7517) as JSON, each key with kid (RFC 7638) and x5c (the key's
  // certificate, then the site's CA).
  Result<std::string> attestation_keys();

 private:
  ClientOptions options_;
};

// The keeper's side ("vault-keys"). The vault looks at the caller's uid (SO_PEERCRED) and speaks
// only with users that the launcher has bound to a VM: anyone else finds the connection closed
// (kUnavailable). All calls: kPermission if the uid is not that VM's; and all but the session's
// kUnavailable while the VM is not released.
class KeyClient {
 public:
  explicit KeyClient(ClientOptions options) : options_(std::move(options)) {}

  Result<FetchedKey> fetch_key(VmId vm);
  // For a keeper that was just started, and so may be ahead of its release: asks until the vault is
  // there and the VM released, at most for `limit`.
  Result<FetchedKey> await_key(VmId vm, std::chrono::milliseconds limit = kReleaseLimit);
  // Durable when it returns. The vault stores what it is told; whether a point is older than the
  // last one is the keeper's to judge (it alone knows the lineage).
  Status put_freshness(VmId vm, const Freshness& freshness);
  Result<std::optional<Freshness>> get_freshness(VmId vm);  // nullopt: none was ever reported
  // Before the line is opened for writing. kUnavailable: not yet; ask again. kConflict: never so.
  Status open_gate(VmId vm);
  // The same, asking until it may, at most for `limit`.
  Status await_gate(VmId vm, std::chrono::milliseconds limit = kGateLimit);
  // Also of a keeper without a key. Counts as long as this keeper runs.
  Status show_line(VmId vm, const ShownLine& line);
  // An endorsement key's certificate, DER, to be written at the TCG's NV index. `public_key` is a
  // SubjectPublicKeyInfo, DER, of the kind named.
  Result<Bytes> issue_ek_certificate(VmId vm, EkKind kind, ByteSpan public_key);
  // The name of the VM's pinned attestation key; nullopt: none is enrolled.
  Result<std::optional<Bytes>> attestation_pinned_name(VmId vm);
  // This site's vault signs what a session with another site's keeper of the same VM begins with
  // (crypto/session_statement.h). kPermission: not of this VM, or not this site as the signer.
  // kNotFound: the other site is not pinned.
  Result<crypto::Signature> session_sign(VmId vm, ByteSpan statement);
  // Whether `peer`'s vault signed that statement, to this site. kWrongKey: it did not.
  Status session_check(VmId vm, SiteId peer, ByteSpan statement,
                       const crypto::Signature& signature);

 private:
  ClientOptions options_;
};

}  // namespace hf::vault
