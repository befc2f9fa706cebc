//! The attributes `#[innkeeper_sdk::model]` and `#[innkeeper_sdk::trainer]`. Their documentation is in `innkeeper_sdk`.
//!
//! They only read which type is meant; what an export is, `innkeeper_sdk::export!` and `export_trainer!` know.

#![forbid(unsafe_code)]

use proc_macro::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Error, ItemImpl};

/// Exports the implementor of `Model` as the component's model.
#[proc_macro_attribute]
pub fn model(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    let exported = match exported("model", arguments.into(), item.clone()) {
        Ok(model) => quote! { ::innkeeper_sdk::export!(#model); },
        Err(error) => error.into_compile_error(),
    };
    // The item itself stays as it was written, also next to an error, so that nothing else seems broken.
    quote! { #item #exported }.into()
}

/// Exports the implementor of `Trainer` as the component's trainer.
#[proc_macro_attribute]
pub fn trainer(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    let exported = match exported("trainer", arguments.into(), item.clone()) {
        Ok(trainer) => quote! { ::innkeeper_sdk::export_trainer!(#trainer); },
        Err(error) => error.into_compile_error(),
    };
    quote! { #item #exported }.into()
}

/// The type that an `impl Model for Type` or `impl Trainer for Type` is about.
fn exported(
    what: &str,
    arguments: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
) -> Result<syn::Type, Error> {
    if !arguments.is_empty() {
        return Err(Error::new(arguments.span(), format!("#[{what}] takes no arguments")));
    }
    let name = what[..1].to_uppercase() + &what[1..];
    let wanted = format!("#[{what}] stands on `impl {name} for YourType`");
    let item: ItemImpl = syn::parse2(item.clone()).map_err(|_| Error::new(item.span(), &wanted))?;
    if item.trait_.is_none() {
        return Err(Error::new(item.self_ty.span(), wanted));
    }
    if !item.generics.params.is_empty() {
        return Err(Error::new(
            item.generics.span(),
            format!("a {what} that is exported has no parameters"),
        ));
    }
    Ok(*item.self_ty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_impl_of_a_trait_is_a_model() {
        let check = |item: proc_macro2::TokenStream, wanted: Result<&str, &str>| {
            let got = exported("model", quote!(), item).map(|model| quote!(#model).to_string());
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
