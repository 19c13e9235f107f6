#include "cli/core/client.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>

#include "launcher/tree/host_users.h"

namespace hf::cli {

using launcher::kOperatorsGroup;

namespace {

constexpr size_t kReplyBytesMax = size_t{16} << 20;

struct EasyFree {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct ListFree {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

size_t append_reply(char* data, size_t size, size_t count, void* user) {
  auto& reply = *static_cast<std::string*>(user);
  if (reply.size() + size * count > kReplyBytesMax) return 0;
  reply.append(data, size * count);
  return size * count;
}

struct StreamState {
  CURL* easy = nullptr;
  const std::function<bool(std::string_view)>* take = nullptr;
  std::string error_body;
  bool ended_by_us = false;
};

size_t pass_chunk(char* data, size_t size, size_t count, void* user) {
  auto& state = *static_cast<StreamState*>(user);
  long status = 0;
  curl_easy_getinfo(state.easy, CURLINFO_RESPONSE_CODE, &status);
  if (status >= 400) {
    state.error_body.append(data, size * count);
    return size * count;
  }
  if ((*state.take)(std::string_view(data, size * count))) return size * count;
  state.ended_by_us = true;
  return 0;
}

Error error_of(std::string_view body, long status) {
  Result<sys::JsonObject> parsed = sys::parse_json_object(body);
  if (parsed.ok()) {
    Result<const sys::JsonObject*> error = sys::get_object(*parsed, "error");
    if (error.ok()) return sys::error_from_json(**error);
  }
  return {.code = ErrorCode::kInternal,
          .cause = "holdfastd answered with HTTP status " + std::to_string(status),
          .effect = "it is not known whether the command was carried out",
          .mend = "look at its log: STATE/run/log/daemon.log"};
}

std::string user_words(uid_t uid) {
  const passwd* user = ::getpwuid(uid);
  const std::string number = "user " + std::to_string(uid);
  return user == nullptr ? number : number + " (" + user->pw_name + ")";
}

// The socket is its daemon's user's, and so is what lies above it where the site has one user for
// all. Where it cannot be seen at all, root's is the only name that is known.
std::optional<uid_t> user_of_daemon(const std::string& state, const std::string& socket) {
  struct stat info{};
  for (const std::string& path : {socket, state + "/run"}) {
    if (::stat(path.c_str(), &info) == 0) return info.st_uid;
  }
  return std::nullopt;
}

}  // namespace

Error not_permitted(const std::string& state, const std::string& socket) {
  struct stat info{};
  const bool seen = ::stat(socket.c_str(), &info) == 0;
  const group* named = seen && (info.st_mode & 0060) != 0 ? ::getgrgid(info.st_gid) : nullptr;
  const bool has_group = named != nullptr && named->gr_name == kOperatorsGroup;
  const std::optional<uid_t> owner = user_of_daemon(state, socket);
  std::string who = "root";
  if (owner && *owner != 0) who += " and " + user_words(*owner) + ", as whom holdfastd runs,";
  if (has_group) who += " and who is in the group " + std::string(kOperatorsGroup);
  const passwd* self = ::getpwuid(::geteuid());
  const std::string name = self == nullptr ? "USER" : self->pw_name;
  std::string mend = "run the command as root: sudo holdfast --state " + state +
                     " ...; or, to let " + name + " in for good, as root: ";
  if (!has_group) mend += "groupadd --force --system " + std::string(kOperatorsGroup) + "; ";
  mend += "usermod -aG " + std::string(kOperatorsGroup) + " " + name;
  if (!has_group) mend += "; holdfast --state " + state + " site restart";
  mend += "; then log in again";
  return {.code = ErrorCode::kPermission,
          .cause = user_words(::geteuid()) + " may not use " + socket + ": only " + who + " may",
          .effect = "nothing was done",
          .mend = std::move(mend)};
}

Error Client::unreachable(std::string_view why) const {
  // The client library tells of both with one number.
  const std::string socket = state_ + "/run/api.sock";
  if (::faccessat(AT_FDCWD, socket.c_str(), W_OK, AT_EACCESS) != 0 && errno == EACCES) {
    return not_permitted(state_, socket);
  }
  return {.code = ErrorCode::kUnavailable,
          .cause = "holdfastd does not answer at " + socket + ": " + std::string(why),
          .effect = "nothing was done",
          .mend = "holdfast --state " + state_ + " site start"};
}

Result<sys::JsonValue> Client::call(const char* method, const std::string& target,
                                    const std::string* body) {
  std::unique_ptr<CURL, EasyFree> easy(curl_easy_init());
  HF_ASSERT(easy != nullptr);
  std::string socket = state_ + "/run/api.sock";
  std::string url = "http://localhost" + target;
  std::string reply;
  std::unique_ptr<curl_slist, ListFree> headers(
      curl_slist_append(nullptr, "Content-Type: application/json"));
  headers.reset(curl_slist_append(headers.release(), "Expect:"));
  curl_easy_setopt(easy.get(), CURLOPT_UNIX_SOCKET_PATH, socket.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_PROXY, "");
  curl_easy_setopt(easy.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy.get(), CURLOPT_CONNECTTIMEOUT_MS, 3000L);
  curl_easy_setopt(easy.get(), CURLOPT_TIMEOUT_MS, 60000L);
  curl_easy_setopt(easy.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(easy.get(), CURLOPT_CUSTOMREQUEST, method);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, append_reply);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &reply);
  if (body != nullptr) {
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(body->size()));
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDS, body->data());
  }
  CURLcode code = curl_easy_perform(easy.get());
  if (code != CURLE_OK) {
    Error error = unreachable(curl_easy_strerror(code));
    // It may have heard it.
    if (error.code == ErrorCode::kUnavailable && code != CURLE_COULDNT_CONNECT &&
        std::string_view(method) != "GET") {
      error.effect = "whether the command is carried out is not known";
      error.mend = "holdfast --state " + state_ + " job list says; then the same command again";
    }
    return error;
  }
  long status = 0;
  curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status >= 400) return error_of(reply, status);
  return sys::parse_json(reply, {.bytes_max = kReplyBytesMax, .depth_max = 16});
}

Result<sys::JsonValue> Client::get(const std::string& target) {
  return call("GET", target, nullptr);
}

Result<sys::JsonValue> Client::post(const std::string& target, const sys::JsonObject& body) {
  std::string text = sys::to_text(body);
  return call("POST", target, &text);
}

Result<sys::JsonValue> Client::put(const std::string& target, const sys::JsonObject& body) {
  std::string text = sys::to_text(body);
  return call("PUT", target, &text);
}

Result<sys::JsonValue> Client::remove(const std::string& target) {
  return call("DELETE", target, nullptr);
}

Status Client::post_bytes(const std::string& target, std::string_view bytes) {
  std::string text(bytes);
  Result<sys::JsonValue> reply = call("POST", target, &text);
  if (!reply.ok()) return reply.error();
  return {};
}

Status Client::stream(const std::string& target,
                      const std::function<bool(std::string_view)>& take) {
  std::unique_ptr<CURL, EasyFree> easy(curl_easy_init());
  HF_ASSERT(easy != nullptr);
  StreamState state{.easy = easy.get(), .take = &take, .error_body = {}};
  std::string socket = state_ + "/run/api.sock";
  std::string url = "http://localhost" + target;
  curl_easy_setopt(easy.get(), CURLOPT_UNIX_SOCKET_PATH, socket.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_PROXY, "");
  curl_easy_setopt(easy.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy.get(), CURLOPT_CONNECTTIMEOUT_MS, 3000L);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, pass_chunk);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &state);
  CURLcode code = curl_easy_perform(easy.get());
  long status = 0;
  curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
  if (state.ended_by_us) return {};
  if (code != CURLE_OK) return unreachable(curl_easy_strerror(code));
  if (status >= 400) return error_of(state.error_body, status);
  return {};
}

std::string url_escape(std::string_view text) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (char c : text) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                 c == '-' || c == '_' || c == '.' || c == '~';
    if (plain) {
      out += c;
      continue;
    }
    auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

}  // namespace hf::cli
