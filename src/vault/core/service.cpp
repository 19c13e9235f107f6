#include "vault/core/service.h"

namespace hf::vault {
namespace {

Error wrong_listener(Op op) {
  return Error{.code = ErrorCode::kPermission,
               .cause = "the operation " + std::string(to_string(op)) +
                        " is not offered on this socket of the vault",
               .effect = "nothing was done"};
}

Result<Bytes> empty(Status status) {
  TRY(std::move(status));
  return Bytes();
}

Result<Bytes> info(Result<KeyInfo> key) {
  const KeyInfo value = TRY(std::move(key));
  Writer out;
  encode(out, value);
  return out.take();
}

Result<Bytes> blob(Result<Bytes> bytes) {
  const Bytes value = TRY(std::move(bytes));
  Writer out;
  out.blob(value, kMaxBlob);
  return out.take();
}

Result<Bytes> pin(Result<AttestationPin> found) {
  const AttestationPin value = TRY(std::move(found));
  Writer out;
  encode(out, value);
  return out.take();
}

}  // namespace

crypto::Secret Service::answer(Listener listener, const Caller& caller, const FrameHeader& header,
                               ByteSpan body) {
  HF_ASSERT(body.size() == header.body_length && body.size() <= kMaxBody);
  const Op op = header.op;
  if (listener_of(op) != listener) {
    return encode_error_reply(op, header.request_id, wrong_listener(op));
  }
  if (op == Op::kFetchKey) {
    Result<FetchedKey> key = fetch(caller, body);
    return key.ok() ? encode_fetched_key(op, header.request_id, *key)
                    : encode_error_reply(op, header.request_id, key.error());
  }
  const Result<Bytes> result = listener == Listener::kAdmin      ? admin(op, caller, body)
                               : listener == Listener::kKeys     ? keys(op, caller, body)
                               : listener == Listener::kLauncher ? bind_keepers(caller, body)
                                                                 : operators(op, caller, body);
  return result.ok() ? encode_reply(op, header.request_id, *result)
                     : encode_error_reply(op, header.request_id, result.error());
}

Result<Bytes> Service::admin(Op op, const Caller& caller, ByteSpan body) {
  Reader reader(body);
  switch (op) {
    case Op::kCreateVm: {
      TRY(reader.finish("create_vm"));
      return info(vault_.create_vm(caller));
    }
    case Op::kKeyInfo: {
      const VmId vm = reader.id<VmId>();
      TRY(reader.finish("key_info"));
      return info(vault_.key_info(vm));
    }
    case Op::kRelease: {
      const VmId vm = reader.id<VmId>();
      TRY(reader.finish("release"));
      return empty(vault_.release(vm, caller));
    }
    case Op::kRevoke: {
      const VmId vm = reader.id<VmId>();
      TRY(reader.finish("revoke"));
      return empty(vault_.revoke(vm, caller));
    }
    case Op::kDeleteKey: {
      const VmId vm = reader.id<VmId>();
      TRY(reader.finish("delete_key"));
      return empty(vault_.delete_key(vm, caller));
    }
    case Op::kReadFreshness: {
      const VmId vm = reader.id<VmId>();
      TRY(reader.finish("read_freshness"));
      const Freshness freshness = TRY(vault_.read_freshness(vm));
      Writer out;
      encode(out, freshness);
      return out.take();
    }
    default:
      return op >= Op::kTitle && op <= Op::kTitlePropose ? titles(op, caller, body)
                                                         : admin_sites(op, caller, body);
  }
}

Result<Bytes> Service::titles(Op op, const Caller& caller, ByteSpan body) {
  Reader reader(body);
  Writer out;
  switch (op) {
    case Op::kTitle: {
      const VmId vm = reader.id<VmId>();
      TRY(reader.finish("title"));
      encode(out, TRY(vault_.title(vm)));
      return out.take();
    }
    case Op::kTitleLacking: {
      const VmId vm = reader.id<VmId>();
      const uint32_t count = reader.u32();
      if (count > kMaxKnown) reader.fail();
      std::vector<Digest> known;
      for (uint32_t i = 0; i < count && !reader.failed(); ++i) known.push_back(reader.id<Digest>());
      TRY(reader.finish("title_lacking"));
      out.blob(TRY(vault_.title_lacking(vm, known)), kMaxBundle);
      return out.take();
    }
    case Op::kTitleLearn: {
      const VmId vm = reader.id<VmId>();
      const SiteId from = reader.id<SiteId>();
      const bool begin = reader.u8() != 0;
      const ByteSpan bundle = reader.blob(kMaxBundle);
      TRY(reader.finish("title_learn"));
      encode(out, TRY(vault_.title_learn(vm, from, bundle, begin, caller)));
      return out.take();
    }
    case Op::kTitleAsk: {
      const VmId vm = reader.id<VmId>();
      const SiteId to = reader.id<SiteId>();
      TRY(reader.finish("title_ask"));
      return encode_question(TRY(vault_.title_ask(vm, to)));
    }
    case Op::kTitleAnswer: {
      const title::Question question = TRY(decode_question(reader.raw(kQuestionSize)));
      const uint8_t word = reader.u8();
      TRY(reader.finish("title_answer"));
      const OwnWord said{.accepts = (word & 1U) != 0, .prepared = (word & 2U) != 0};
      out.blob(TRY(vault_.title_answer(question, said)), title::kAnswerSizeMax);
      return out.take();
    }
    case Op::kTitleTakeAnswer: {
      const VmId vm = reader.id<VmId>();
      const ByteSpan answer = reader.blob(title::kAnswerSizeMax);
      TRY(reader.finish("title_take_answer"));
      encode(out, TRY(vault_.title_take_answer(vm, answer)));
      return out.take();
    }
    default: {
      const TitleProposal proposal = decode_title_proposal(reader);
      TRY(reader.finish("title_propose"));
      encode(out, TRY(vault_.title_propose(proposal, caller)));
      return out.take();
    }
  }
}

Result<Bytes> Service::admin_sites(Op op, const Caller& caller, ByteSpan body) {
  Reader reader(body);
  Writer out;
  switch (op) {
    case Op::kSiteIdentity:
      TRY(reader.finish("site_identity"));
      encode(out, vault_.identity());
      return out.take();
    case Op::kIssueTls: {
      const TlsRequest request = decode_tls_request(reader);
      TRY(reader.finish("issue_tls"));
      out.text(TRY(vault_.issue_tls(request, caller)), kMaxPem);
      return out.take();
    }
    case Op::kRecipients: {
      TRY(reader.finish("recipients"));
      const std::vector<SiteIdentity> all = TRY(vault_.recipients());
      HF_ASSERT(all.size() <= kMaxRecipients);
      out.u32(static_cast<uint32_t>(all.size()));
      for (const SiteIdentity& peer : all) encode(out, peer);
      return out.take();
    }
    case Op::kWrapFor: {
      const VmId vm = reader.id<VmId>();
      const SiteId site = reader.id<SiteId>();
      TRY(reader.finish("wrap_for"));
      return blob(vault_.wrap_for(vm, site, caller));
    }
    case Op::kImportWrap: {
      const VmId vm = reader.id<VmId>();
      const ByteSpan wrap = reader.blob(kMaxBlob);
      TRY(reader.finish("import_wrap"));
      out.u8(static_cast<uint8_t>(TRY(vault_.import_wrap(vm, wrap, caller))));
      return out.take();
    }
    case Op::kProvePairing:
    case Op::kCheckPairing:
    case Op::kAcceptPairing:
      return pairing(op, caller, body);
    default:
      return attestation(op, caller, body);
  }
}

Result<Bytes> Service::pairing(Op op, const Caller& caller, ByteSpan body) {
  Reader reader(body);
  PairingProof said;
  said.token = reader.id<PairingTokenId>();
  said.context = reader.id<Digest>();
  if (op == Op::kProvePairing) {
    TRY(reader.finish("prove_pairing"));
    Writer out;
    out.id(TRY(vault_.prove_pairing(said.token, said.context)));
    return out.take();
  }
  said.peer = decode_site_identity(reader);
  said.proof = reader.id<Digest>();
  TRY(reader.finish("pairing proof"));
  Writer out;
  out.text(TRY(op == Op::kCheckPairing ? vault_.check_pairing(said, caller)
                                       : vault_.accept_pairing(said, caller)),
           kMaxName);
  return out.take();
}

Result<Bytes> Service::operators(Op op, const Caller& caller, ByteSpan body) {
  Reader reader(body);
  Writer out;
  switch (op) {
    case Op::kOfferPairing: {
      const uint32_t life_s = reader.u32();
      const std::string name = reader.text(kMaxName);
      TRY(reader.finish("offer_pairing"));
      encode(out, TRY(vault_.offer_pairing(life_s, name, caller)));
      return out.take();
    }
    case Op::kConfirmPairing: {
      const PairingConfirmation word = decode_pairing_confirmation(reader);
      TRY(reader.finish("confirm_pairing"));
      out.id(TRY(vault_.confirm_pairing(word, caller)));
      return out.take();
    }
    case Op::kPinnedRecipients: {
      TRY(reader.finish("pinned_recipients"));
      const std::vector<Recipient> all = TRY(vault_.pinned_recipients());
      HF_ASSERT(all.size() <= kMaxRecipients);
      out.u32(static_cast<uint32_t>(all.size()));
      for (const Recipient& recipient : all) encode(out, recipient);
      return out.take();
    }
    case Op::kRemoveRecipient: {
      const SiteId site = reader.id<SiteId>();
      TRY(reader.finish("remove_recipient"));
      return empty(vault_.remove_recipient(site, caller));
    }
    case Op::kAddMember: {
      const VmId vm = reader.id<VmId>();
      const SiteId site = reader.id<SiteId>();
      TRY(reader.finish("add_member"));
      out.u8(TRY(vault_.add_member(vm, site, caller)) ? 1 : 0);
      return out.take();
    }
    case Op::kRemoveMember: {
      const VmId vm = reader.id<VmId>();
      const SiteId site = reader.id<SiteId>();
      TRY(reader.finish("remove_member"));
      return empty(vault_.remove_member(vm, site, caller));
    }
    case Op::kGiveWord: {
      const VmId vm = reader.id<VmId>();
      const uint8_t act = reader.u8();
      if (act > static_cast<uint8_t>(title::Act::kSettleDoubt)) reader.fail();
      TRY(reader.finish("give_word"));
      encode(out, TRY(vault_.give_word(vm, static_cast<title::Act>(act), caller)));
      return out.take();
    }
    case Op::kClearMembers: {
      const VmId vm = reader.id<VmId>();
      TRY(reader.finish("clear_members"));
      return empty(vault_.clear_members(vm, caller));
    }
    default:
      return wrong_listener(op);
  }
}

Result<Bytes> Service::attestation(Op op, const Caller& caller, ByteSpan body) {
  Reader reader(body);
  Writer out;
  const bool of_a_vm = op != Op::kAttestationSign && op != Op::kAttestationKeys;
  const VmId vm = of_a_vm ? reader.id<VmId>() : VmId{};
  switch (op) {
    case Op::kAttestationEnroll: {
      const ByteSpan ek_public = reader.blob(kMaxTpmArea);
      const ByteSpan ek_certificate = reader.blob(kMaxCertificate);
      const ByteSpan ak_public = reader.blob(kMaxTpmArea);
      TRY(reader.finish("attestation_enroll"));
      encode(out, TRY(vault_.attestation_enroll(vm, ek_public, ek_certificate, ak_public, caller)));
      return out.take();
    }
    case Op::kAttestationCertify: {
      const ChallengeId challenge = reader.id<ChallengeId>();
      const ByteSpan secret = reader.blob(kMaxTpmArea);
      TRY(reader.finish("attestation_certify"));
      return pin(vault_.attestation_certify(vm, challenge, secret, caller));
    }
    case Op::kAttestationPinned:
      TRY(reader.finish("attestation_pinned"));
      return pin(vault_.attestation_pinned(vm));
    case Op::kAttestationAdopt: {
      const std::string certificate = reader.text(kMaxPem);
      const ByteSpan ak_public = reader.blob(kMaxTpmArea);
      TRY(reader.finish("attestation_adopt"));
      return pin(vault_.attestation_adopt(vm, certificate, ak_public, caller));
    }
    case Op::kAttestationForget:
      TRY(reader.finish("attestation_forget"));
      return empty(vault_.attestation_forget(vm, caller));
    case Op::kAttestationSign: {
      const VerdictClaims claims = decode_verdict_claims(reader);
      TRY(reader.finish("attestation_sign"));
      out.text(TRY(vault_.attestation_sign(claims, caller)), kMaxToken);
      return out.take();
    }
    case Op::kAttestationKeys: {
      TRY(reader.finish("attestation_keys"));
      out.text(TRY(vault_.attestation_keys(caller)), kMaxBlob);
      return out.take();
    }
    default:
      return wrong_listener(op);
  }
}

Result<Bytes> Service::bind_keepers(const Caller& caller, ByteSpan body) {
  Reader reader(body);
  const KeeperBindings bindings = decode_keeper_bindings(reader);
  TRY(reader.finish("bind_keepers"));
  return empty(vault_.bind_keepers(bindings, caller));
}

Result<FetchedKey> Service::fetch(const Caller& caller, ByteSpan body) {
  Reader reader(body);
  const VmId vm = reader.id<VmId>();
  TRY(reader.finish("fetch_key"));
  return vault_.fetch_key(vm, caller);
}

Result<Bytes> Service::keys(Op op, const Caller& caller, ByteSpan body) {
  Reader reader(body);
  const VmId vm = reader.id<VmId>();
  switch (op) {
    case Op::kPutFreshness: {
      const Freshness freshness = decode_freshness(reader);
      TRY(reader.finish("put_freshness"));
      return empty(vault_.put_freshness(vm, freshness, caller));
    }
    case Op::kGetFreshness: {
      TRY(reader.finish("get_freshness"));
      const std::optional<Freshness> freshness = TRY(vault_.get_freshness(vm, caller));
      Writer out;
      out.u8(freshness.has_value() ? 1 : 0);
      if (freshness.has_value()) encode(out, *freshness);
      return out.take();
    }
    case Op::kOpenGate:
      TRY(reader.finish("open_gate"));
      return empty(vault_.open_gate(vm, caller));
    case Op::kShowLine: {
      ShownLine line = decode_shown_line(reader);
      TRY(reader.finish("show_line"));
      return empty(vault_.show_line(vm, std::move(line), caller));
    }
    case Op::kIssueEk: {
      const auto kind = static_cast<EkKind>(reader.u8());
      const ByteSpan public_key = reader.blob(kMaxBlob);
      TRY(reader.finish("issue_ek_certificate"));
      return blob(vault_.issue_ek_certificate(vm, kind, public_key, caller));
    }
    case Op::kSessionSign: {
      const ByteSpan statement = reader.blob(kMaxStatement);
      TRY(reader.finish("session_sign"));
      const crypto::Signature signature = TRY(vault_.session_sign(vm, statement, caller));
      return Bytes(signature.begin(), signature.end());
    }
    case Op::kSessionCheck: {
      const SiteId peer = reader.id<SiteId>();
      const ByteSpan statement = reader.blob(kMaxStatement);
      const ByteSpan raw = reader.raw(crypto::kSignatureSize);
      TRY(reader.finish("session_check"));
      crypto::Signature signature;
      std::copy(raw.begin(), raw.end(), signature.begin());
      return empty(vault_.session_check(vm, peer, statement, signature, caller));
    }
    case Op::kAttestationPinnedName: {
      TRY(reader.finish("attestation_pinned_name"));
      const std::optional<Bytes> name = TRY(vault_.attestation_pinned_name(vm, caller));
      Writer out;
      out.u8(name.has_value() ? 1 : 0);
      if (name.has_value()) out.blob(*name, kMaxTpmArea);
      return out.take();
    }
    default:
      return wrong_listener(op);
  }
}

}  // namespace hf::vault
