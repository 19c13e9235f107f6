// What keepers of one VM at two sites have their vaults say for them: that the other one is whom
// its site started, now, for this session. A replica's keeper has no key; this is all that it has.

#include <fmt/format.h>

#include "crypto/session_statement.h"
#include "vault/core/signing_labels.h"
#include "vault/core/vault.h"

namespace hf::vault {
namespace {

constexpr std::string_view kNoSession = "no session of the VM's replication begins";

Error not_of_this(std::string cause) {
  return Error{.code = ErrorCode::kPermission,
               .cause = std::move(cause),
               .effect = std::string(kNoSession),
               .mend = "see which site the VM is protected to (holdfast vm show)"};
}

Status check_vm(const crypto::SessionStatement& statement, const VmId& vm) {
  if (statement.vm == vm) return {};
  return not_of_this(fmt::format("a session statement of VM {} in the name of VM {}",
                                 statement.vm.hex(), vm.hex()));
}

}  // namespace

Result<crypto::Signature> Vault::session_sign(const VmId& vm, ByteSpan statement,
                                              const Caller& caller) {
  TRY(check_keeper(vm, caller, "session_sign"));
  const crypto::SessionStatement facts = TRY(crypto::decode_session_statement(statement));
  TRY(check_vm(facts, vm));
  if (facts.signer_site() != site_.identity.site) {
    return not_of_this("a session statement that site " + facts.signer_site().hex() +
                       " is to sign, and not this one");
  }
  TRY(load_recipient(facts.other_site()));
  return site_.signing.sign(labelled(kSessionLabel, statement));
}

Status Vault::session_check(const VmId& vm, const SiteId& peer, ByteSpan statement,
                            const crypto::Signature& signature, const Caller& caller) {
  TRY(check_keeper(vm, caller, "session_check"));
  const crypto::SessionStatement facts = TRY(crypto::decode_session_statement(statement));
  TRY(check_vm(facts, vm));
  if (facts.signer_site() != peer || facts.other_site() != site_.identity.site) {
    return not_of_this("a session statement between other sites than " + peer.hex() +
                       " and this one");
  }
  const SiteIdentity pinned = TRY(load_recipient(peer));
  if (crypto::verify(pinned.signing_public_key, labelled(kSessionLabel, statement), signature)) {
    return {};
  }
  return Error{.code = ErrorCode::kWrongKey,
               .cause = "a session statement not signed by the vault of site " + peer.hex(),
               .effect = std::string(kNoSession),
               .mend = "if that site's vault was made anew, pair the sites again"};
}

}  // namespace hf::vault
