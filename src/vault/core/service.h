// Frames in, frames out: which listener may ask what, and the vault behind it. No sockets here.
#pragma once

#include "vault/core/vault.h"
#include "vault/protocol/protocol.h"

namespace hf::vault {

class Service {
 public:
  explicit Service(Vault& vault) : vault_(vault) {}

  // The reply frame to one request. An operation that does not belong to the listener is refused
  // with kPermission. The caller has checked that who speaks on the daemon's or the launcher's
  // listener is that one, and on the operators' an operator.
  crypto::Secret answer(Listener listener, const Caller& caller, const FrameHeader& header,
                        ByteSpan body);

 private:
  Result<Bytes> admin(Op op, const Caller& caller, ByteSpan body);
  Result<Bytes> admin_sites(Op op, const Caller& caller, ByteSpan body);
  Result<Bytes> titles(Op op, const Caller& caller, ByteSpan body);
  Result<Bytes> attestation(Op op, const Caller& caller, ByteSpan body);
  Result<Bytes> keys(Op op, const Caller& caller, ByteSpan body);
  Result<Bytes> pairing(Op op, const Caller& caller, ByteSpan body);
  Result<Bytes> operators(Op op, const Caller& caller, ByteSpan body);
  Result<Bytes> bind_keepers(const Caller& caller, ByteSpan body);
  Result<FetchedKey> fetch(const Caller& caller, ByteSpan body);

  Vault& vault_;
};

}  // namespace hf::vault
