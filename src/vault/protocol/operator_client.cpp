#include "vault/protocol/operator_client.h"

#include "vault/protocol/ask.h"

namespace hf::vault {

Result<PairingOffer> OperatorClient::offer_pairing(uint32_t life_s, const std::string& name) {
  if (name.size() > kMaxName) return too_long("the other site's name");
  Writer body;
  body.u32(life_s);
  body.text(name, kMaxName);
  return ask(options_, Op::kOfferPairing, body, [](ByteSpan result) -> Result<PairingOffer> {
    Reader reader(result);
    PairingOffer offer = decode_pairing_offer(reader);
    TRY(reader.finish("pairing token"));
    return offer;
  });
}

Result<PairingTokenId> OperatorClient::confirm_pairing(const PairingConfirmation& word) {
  if (word.name.size() > kMaxName) return too_long("the other site's name");
  Writer body;
  encode(body, word);
  return ask(options_, Op::kConfirmPairing, body, [](ByteSpan result) -> Result<PairingTokenId> {
    Reader reader(result);
    const auto id = reader.id<PairingTokenId>();
    TRY(reader.finish("pairing token"));
    return id;
  });
}

Result<std::vector<Recipient>> OperatorClient::recipients() {
  using List = std::vector<Recipient>;
  return ask(options_, Op::kPinnedRecipients, Writer(), [](ByteSpan result) -> Result<List> {
    Reader reader(result);
    const uint32_t count = reader.u32();
    if (count > kMaxRecipients) reader.fail();
    List list;
    for (uint32_t i = 0; i < count && !reader.failed(); ++i) {
      list.push_back(decode_recipient(reader));
    }
    TRY(reader.finish("recipients"));
    return list;
  });
}

Status OperatorClient::remove_recipient(SiteId site) {
  return ask(options_, Op::kRemoveRecipient, body_of(site), expect_empty);
}

Result<bool> OperatorClient::add_member(VmId vm, SiteId site) {
  Writer body = body_of(vm);
  body.id(site);
  return ask(options_, Op::kAddMember, body, [](ByteSpan result) -> Result<bool> {
    Reader reader(result);
    const uint8_t added = reader.u8();
    if (added > 1) reader.fail();
    TRY(reader.finish("member"));
    return added == 1;
  });
}

Status OperatorClient::remove_member(VmId vm, SiteId site) {
  Writer body = body_of(vm);
  body.id(site);
  return ask(options_, Op::kRemoveMember, body, expect_empty);
}

Status OperatorClient::clear_members(VmId vm) {
  return ask(options_, Op::kClearMembers, body_of(vm), expect_empty);
}

}  // namespace hf::vault
