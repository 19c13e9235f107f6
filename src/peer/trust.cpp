#include "peer/trust.h"

#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>

namespace hf::peer {
namespace {

struct StoreFree {
  void operator()(X509_STORE* store) const { X509_STORE_free(store); }
};
struct StoreCtxFree {
  void operator()(X509_STORE_CTX* context) const { X509_STORE_CTX_free(context); }
};

Error wrong(std::string cause) { return {.code = ErrorCode::kWrongKey, .cause = std::move(cause)}; }

}  // namespace

std::optional<SiteId> site_of(const crypto::Certificate& leaf) {
  constexpr std::string_view kPrefix = "holdfast:site:";
  for (const std::string& uri : leaf.uris()) {
    if (!uri.starts_with(kPrefix)) continue;
    const Result<SiteId> site = SiteId::parse_hex(std::string_view(uri).substr(kPrefix.size()));
    if (site.ok()) return *site;
  }
  return std::nullopt;
}

Status verify_peer(const std::vector<crypto::Certificate>& chain, const crypto::Certificate& ca,
                   SiteId site) {
  HF_ASSERT(!chain.empty());
  const std::unique_ptr<X509_STORE, StoreFree> store(X509_STORE_new());
  const std::unique_ptr<X509_STORE_CTX, StoreCtxFree> context(X509_STORE_CTX_new());
  HF_ASSERT(store != nullptr && context != nullptr);
  X509_STORE_add_cert(store.get(), ca.handle());
  X509_STORE_CTX_init(context.get(), store.get(), chain.front().handle(), nullptr);
  // Not by dates: what is trusted is the pinned key, and the link's own is made anew at each start.
  // Dates would only make a clock that is wrong, here or there, cut the sites off from each other.
  X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(context.get()), X509_V_FLAG_NO_CHECK_TIME);
  if (X509_verify_cert(context.get()) != 1) {
    return wrong(std::string("its certificate is not one of the pinned authority: ") +
                 X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get())));
  }
  // A site's attestation key has the site's name in its certificate too: not for this.
  if (chain.front().is_ca() || !chain.front().has_extended_key_usage("1.3.6.1.5.5.7.3.1") ||
      !chain.front().has_extended_key_usage("1.3.6.1.5.5.7.3.2")) {
    return wrong("its certificate is not one for connections between sites");
  }
  if (site_of(chain.front()) != site)
    return wrong("its certificate names another site than " + site.hex());
  return {};
}

}  // namespace hf::peer
