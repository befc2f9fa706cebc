//! The attribute `#[innkeeper_sdk::model]`. Its documentation is in `innkeeper_sdk`.
//!
//! It only reads which type is the model; what an export is, `innkeeper_sdk::export!` knows.

#![forbid(unsafe_code)]

use proc_macro::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Error, ItemImpl};

/// Exports the implementor of `Model` as the component's model.
#[proc_macro_attribute]
pub fn model(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    let exported = match exported(arguments.into(), item.clone()) {
        Ok(model) => quote! { ::innkeeper_sdk::export!(#model); },
        Err(error) => error.into_compile_error(),
    };
    // The item itself stays as it was written, also next to an error, so that nothing else seems broken.
    quote! { #item #exported }.into()
}

/// The type that an `impl Model for Type` is about.
fn exported(
    arguments: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
) -> Result<syn::Type, Error> {
    if !arguments.is_empty() {
        return Err(Error::new(arguments.span(), "#[model] takes no arguments"));
    }
    let wanted = "#[model] stands on `impl Model for YourType`";
    let item: ItemImpl = syn::parse2(item.clone()).map_err(|_| Error::new(item.span(), wanted))?;
    if item.trait_.is_none() {
        return Err(Error::new(item.self_ty.span(), wanted));
    }
    if !item.generics.params.is_empty() {
        return Err(Error::new(item.generics.span(), "a model that is exported has no parameters"));
    }
    Ok(*item.self_ty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_impl_of_a_trait_is_a_model() {
        let check = |item: proc_macro2::TokenStream, wanted: Result<&str, &str>| {
            let got = exported(quote!(), item).map(|model| quote!(#model).to_string());
            let got = got.map_err(|error| error.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), wanted);
        };
        let place = "#[model] stands on `impl Model for YourType`";
        check(quote!(impl Model for Digits {}), Ok("Digits"));
        check(
            quote!(
                struct Digits;
            ),
            Err(place),
        );
        check(quote!(impl Digits {}), Err(place));
        let parameters = "a model that is exported has no parameters";
        check(
            quote!(
                impl<T> Model for Digits<T> {}
            ),
            Err(parameters),
        );
    }
}
